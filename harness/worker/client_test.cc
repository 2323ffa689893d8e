#include "harness/worker/client.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <thread>
#include <vector>

namespace assay::harness {
namespace {

using namespace std::chrono_literals;

std::filesystem::path hostile(const std::string& name) {
  return std::filesystem::path(ASSAY_TEST_HOSTILE) / (name + ".so");
}

WorkerOptions options(const std::string& candidate) {
  return {.worker = ASSAY_TEST_WORKER,
          .candidate = hostile(candidate),
          .memory_limit_bytes = std::size_t{256} << 20,
          .load_timeout = 20s,
          .environment = {}};
}

HostTensor written_saved() {
  return {.name = "saved", .role = Role::saved, .dtype = DType::uint8, .shape = {}, .strides = {}, .bytes = {}};
}

Call rms_norm(std::int64_t rows = 4, std::int64_t width = 8, DType dtype = DType::float32) {
  Call call{.op = "rms_norm.forward",
            .attributes = {{"eps", 1e-5}},
            .tensors = {make_tensor("input.hidden_states", Role::in, dtype, {rows, width}),
                        make_tensor("param.weight", Role::in, dtype, {width}),
                        make_tensor("output.hidden_states", Role::out, dtype, {rows, width}), written_saved()}};
  for (std::int64_t i = 0; i < rows * width; ++i) call.tensors[0].set(i, 0.25 * static_cast<double>((i * 7) % 11) - 1);
  for (std::int64_t i = 0; i < width; ++i) call.tensors[1].set(i, 1 + 0.125 * static_cast<double>(i % 5));
  return call;
}

// The same in double, from the equation.
std::vector<double> expected(const Call& call) {
  const HostTensor &x = call.tensor("input.hidden_states"), &weight = call.tensor("param.weight");
  const std::int64_t rows = x.shape[0], width = x.shape[1];
  std::vector<double> y;
  for (std::int64_t row = 0; row < rows; ++row) {
    double squares = 0;
    for (std::int64_t i = 0; i < width; ++i) squares += x.at(row * width + i) * x.at(row * width + i);
    for (std::int64_t i = 0; i < width; ++i) {
      y.push_back(weight.at(i) * x.at(row * width + i) /
                  std::sqrt(squares / static_cast<double>(width) + call.number("eps")));
    }
  }
  return y;
}

void expect_right(const Reply& reply, const Call& call, double relative = 1e-6) {
  ASSERT_EQ(reply.outcome, Outcome::completed) << reply.message;
  const HostTensor* y = reply.find("output.hidden_states");
  ASSERT_NE(y, nullptr);
  const std::vector<double> wanted = expected(call);
  ASSERT_EQ(y->size(), static_cast<std::int64_t>(wanted.size()));
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    ASSERT_NEAR(y->at(static_cast<std::int64_t>(i)), wanted[i], relative * (1 + std::abs(wanted[i]))) << i;
  }
}

void expect_clean(const Reply& reply) {
  EXPECT_TRUE(reply.fences.empty()) << to_string(reply.fences[0]);
  EXPECT_TRUE(reply.changed.empty());
  EXPECT_TRUE(reply.unwritten.empty());
}

// The message holds all of the words.
void expect_says(const std::string& message, const std::vector<const char*>& words) {
  for (const char* word : words)
    EXPECT_NE(message.find(word), std::string::npos) << "no \"" << word << "\" in: " << message;
}

std::string start_error(const WorkerOptions& o) {
  try {
    Worker worker(o);
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "no error";
}

std::size_t open_files() {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
  return count;
}

// No process of ours is left, not even a zombie.
bool has_children() { return waitpid(-1, nullptr, WNOHANG) >= 0 || errno != ECHILD; }

// ---- a candidate as it should be

TEST(Worker, TellsWhoTheCandidateIs) {
  Worker worker(options("base"));
  EXPECT_EQ(worker.info().name, "plain 1");
  EXPECT_EQ(worker.info().target, "cpu:plain");
  EXPECT_EQ(worker.info().abi, ASSAY_CANDIDATE_ABI_VERSION);
  EXPECT_TRUE(worker.info().schedules.empty());
}

TEST(Worker, RunsACallInBothDtypesAndManySizes) {
  Worker worker(options("base"));
  for (const DType dtype : {DType::float32, DType::bfloat16}) {
    for (const auto& [rows, width] : {std::pair{1, 1}, {4, 8}, {7, 96}, {3, 1031}, {0, 8}, {64, 4096}}) {
      const Call call = rms_norm(rows, width, dtype);
      const Reply reply = worker.run(call);
      expect_right(reply, call,
                   dtype == DType::float32 ? 1e-6 : 1.0 / 256);  // half an ulp of bfloat16 is 2^-9 of a value
      expect_clean(reply);
      EXPECT_EQ(reply.variant, "plain_loops");
      EXPECT_EQ(to_string(reply.contract), "ieee, fp32, deterministic");
      EXPECT_EQ(reply.find("saved")->shape, (Shape{4 * rows}));
    }
  }
  EXPECT_EQ(worker.restarts(), 0);
}

TEST(Worker, GrowsTheSharedFileForALargeCall) {
  Worker worker(options("base"));
  const Call large = rms_norm(1024, 4096);  // 16 MiB a tensor
  expect_right(worker.run(large), large);
  const Call small = rms_norm();
  expect_right(worker.run(small), small);
}

TEST(Worker, LaysOutStridedTensors) {
  Worker worker(options("base"));
  Call call = rms_norm(5, 12);
  call.tensor("input.hidden_states").strides = {40, 1};
  call.tensor("output.hidden_states").strides = {1, 7};  // transposed, with gaps
  const Reply reply = worker.run(call);
  expect_right(reply, call);
  expect_clean(reply);
}

TEST(Worker, LaysOutEmptyTensorsOfAnyStrides) {
  Worker worker(options("base"));
  Call call = rms_norm(0, 12);
  call.tensor("input.hidden_states").strides = {0, 5};
  call.tensor("output.hidden_states").strides = {3, 0};
  const Reply reply = worker.run(call);
  expect_right(reply, call);
  expect_clean(reply);
}

TEST(Worker, HandsTapsBackOnlyWhereTheyWereFilled) {
  Worker worker(options("base"));
  Call call = rms_norm();
  call.tensors.push_back(make_tensor("tap.rstd", Role::tap, DType::float32, {4}));
  call.tensors.push_back(make_tensor("tap.unknown", Role::tap, DType::float32, {4}));
  const Reply reply = worker.run(call);
  expect_clean(reply);
  ASSERT_NE(reply.find("tap.rstd"), nullptr);
  EXPECT_GT(reply.find("tap.rstd")->at(0), 0);
  EXPECT_EQ(reply.find("tap.unknown"), nullptr);
}

TEST(Worker, HandsSavedBytesFromOneCallToAnother) {
  Worker worker(options("base"));
  Call call = rms_norm();
  HostTensor saved = *worker.run(call).find("saved");
  call.tensor("saved") = saved;  // now read: the base candidate writes the same bytes over it
  const Reply reply = worker.run(call);
  ASSERT_EQ(reply.outcome, Outcome::completed);
  EXPECT_TRUE(reply.changed.empty());
  call.tensor("saved").bytes[5] ^= std::byte{1};
  ASSERT_EQ(worker.run(call).changed.size(), 1u);
  EXPECT_EQ(worker.run(call).changed[0].tensor, "saved");
  EXPECT_EQ(worker.run(call).changed[0].first, 5);
}

TEST(Worker, RepeatsARequestThatNeedsMoreRoom) {
  Worker worker(options("large_saved"));
  const Call call = rms_norm(1, 8);
  const Reply reply = worker.run(call);
  expect_right(reply, call);
  ASSERT_EQ(reply.find("saved")->bytes.size(), std::size_t{1} << 20);
  EXPECT_EQ(reply.find("saved")->bytes.back(), std::byte{0x5C});
}

TEST(Worker, SelectsTheSchedule) {
  Worker worker(options("wrong_on_one_schedule"));
  ASSERT_EQ(worker.info().schedules.size(), 2u);
  EXPECT_EQ(worker.info().schedules[1].name, "descending");
  EXPECT_EQ(worker.info().schedules[1].arithmetic, "nominal");
  const Call call = rms_norm();
  expect_right(worker.run(call, {.schedule = 0}), call);
  EXPECT_NE(worker.run(call, {.schedule = 1}).find("output.hidden_states")->bytes,
            worker.run(call, {.schedule = 0}).find("output.hidden_states")->bytes);
  EXPECT_THROW(worker.run(call, {.schedule = 2}), std::invalid_argument);
}

TEST(Worker, RefusesACallThatIsMalformed) {
  Worker worker(options("base"));
  Call call = rms_norm();
  call.tensors[0].bytes.pop_back();
  EXPECT_THROW(worker.run(call), std::invalid_argument);
  expect_right(worker.run(rms_norm()), rms_norm());
}

TEST(Worker, ManyRunAtOnceFromManyThreads) {
  std::vector<std::thread> threads;
  std::atomic<int> right = 0;
  for (int t = 0; t < 6; ++t) {
    threads.emplace_back([&, t] {
      Worker worker(options(t % 2 == 0 ? "base" : "crashes"));
      for (int i = 0; i < 20; ++i) {
        const Reply reply = worker.run(rms_norm(1 + t, 8));
        right += reply.outcome == (t % 2 == 0 ? Outcome::completed : Outcome::crashed);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(right, 120);
  EXPECT_FALSE(has_children());
}

// ---- libraries that are no candidates

// A candidate of an older assay_candidate.h, whose table ends before the counting functions; and one that counts.
TEST(Load, TakesATableWithoutCounting) {
  Worker old(options("old_table"));
  EXPECT_FALSE(old.info().can_count);
  EXPECT_EQ(old.run(rms_norm(2, 8)).outcome, Outcome::completed);
  EXPECT_THROW(old.run(rms_norm(2, 8), {.count = true}), std::invalid_argument);
}

TEST(Run, ReturnsCountersWhereTheyAreAskedFor) {
  Worker worker(options("counts"));
  EXPECT_TRUE(worker.info().can_count);
  EXPECT_TRUE(worker.run(rms_norm(2, 8)).counters.empty());
  const std::map<std::string, std::int64_t> one_run = {{"runs", 1}};
  EXPECT_EQ(worker.run(rms_norm(2, 8), {.count = true}).counters, one_run);
  EXPECT_EQ(worker.run(rms_norm(2, 8), {.count = true}).counters, one_run);
  EXPECT_TRUE(worker.run(rms_norm(2, 8)).counters.empty());
}

TEST(Load, SaysWhatIsWrongAndWhatToDo) {
  expect_says(start_error(options("does_not_exist")), {"does_not_exist.so", "no such file", "want"});
  expect_says(start_error(options("missing_symbol")), {"missing_symbol.so", "assay_candidate_v1", "want"});
  expect_says(start_error(options("null_table")), {"null_table.so", "NULL", "want"});
  expect_says(start_error(options("other_abi")), {"other_abi.so", "version 7", "version 1", "rebuild"});
  expect_says(start_error(options("small_table")), {"small_table.so", "struct_size = ", "want at least"});
  expect_says(start_error(options("null_function")), {"null_function.so", "usable run"});
  expect_says(start_error(options("crashes_in_load")),
              {"crashes_in_load.so", "SIGSEGV", "in load", "loading the driver"});
  EXPECT_FALSE(has_children());
}

TEST(Load, SaysThatAFileIsNoLibrary) {
  const auto path = std::filesystem::temp_directory_path() / fmt::format("assay_not_a_library_{}.so", getpid());
  std::ofstream(path) << "plain text";
  WorkerOptions o = options("base");
  o.candidate = path;
  expect_says(start_error(o), {path.c_str(), "cannot be loaded", "want a shared library"});
  o.candidate = std::filesystem::temp_directory_path();
  expect_says(start_error(o), {"not a file"});
  std::filesystem::remove(path);
}

TEST(Load, SaysThatTheWorkerIsMissing) {
  WorkerOptions o = options("base");
  o.worker = "/nowhere/assay_worker";
  expect_says(start_error(o), {"/nowhere/assay_worker", "No such file", "assay_worker"});
}

TEST(Load, ANoDeviceCandidateIsAnErrorOfItsOwn) {
  try {
    Worker worker(options("no_device"));
    FAIL();
  } catch (const NoDevice& error) {
    expect_says(error.what(), {"no_device.so", "no CUDA-capable device is detected"});
  }
}

TEST(Load, IsGivenUpAfterItsTime) {
  WorkerOptions o = options("hangs_in_load");
  o.load_timeout = 200ms;
  expect_says(start_error(o), {"hangs_in_load.so", "killed in load", "0.2 s"});
  EXPECT_FALSE(has_children());
}

TEST(Load, AnotherProgramIsNoWorker) {
  WorkerOptions o = options("base");
  o.worker = "/bin/true";
  expect_says(start_error(o), {"exited with code 0"});
}

TEST(Load, PassesTheEnvironmentOn) {
  WorkerOptions o = options("crashes_in_load");
  o.environment = {"LD_PRELOAD=/nowhere/assay_preload.so"};
  expect_says(start_error(o), {"/nowhere/assay_preload.so"});  // the loader complains
}

// ---- candidates that fail in one call

struct Death {
  const char* candidate;
  Outcome outcome;
  std::vector<const char*> words;
};

class Dies : public testing::TestWithParam<Death> {};

TEST_P(Dies, CostsOneCallAndLeavesNothingBehind) {
  const auto& [candidate, outcome, words] = GetParam();
  const std::size_t files = open_files();
  {
    Worker worker(options(candidate));
    for (int round = 1; round <= 2; ++round) {  // the second time in a new process
      const Reply reply = worker.run(rms_norm(), {.timeout = 1s});
      EXPECT_EQ(reply.outcome, outcome) << to_string(reply.outcome) << ": " << reply.message;
      EXPECT_TRUE(reply.message.starts_with("rms_norm.forward: ")) << reply.message;
      expect_says(reply.message, words);
      EXPECT_TRUE(reply.outputs.empty());
      EXPECT_EQ(worker.restarts(), round - 1);
      EXPECT_FALSE(has_children());
    }
  }
  EXPECT_EQ(open_files(), files);
}

INSTANTIATE_TEST_SUITE_P(
    Worker, Dies,
    testing::Values(Death{"crashes", Outcome::crashed, {"SIGSEGV", "in run", "about to touch address 0"}},
                    Death{"aborts", Outcome::crashed, {"SIGABRT", "in run"}},
                    Death{"exits", Outcome::crashed, {"exited with code 0 in run"}},
                    Death{"throws", Outcome::crashed, {"SIGABRT", "in run", "a C++ exception in a C function"}},
                    Death{"overflows_stack", Outcome::crashed, {"SIGSEGV", "in run"}},
                    Death{"corrupts_heap", Outcome::crashed, {"died of signal"}},  // which one, is up to the heap
                    Death{"leaves_child", Outcome::crashed, {"exited with code 3 in run"}},
                    Death{"closes_files", Outcome::crashed, {"closed the files"}},
                    Death{"writes_garbage", Outcome::crashed, {"broke the protocol"}},
                    Death{"hangs", Outcome::timeout, {"killed in run", "no answer within 1 s; on a CPU", "spin_yield()"}},
                    Death{"hangs_in_supports", Outcome::timeout, {"killed in supports"}}),
    [](const auto& param) { return param.param.candidate; });

// As when the machine is suspended, or somebody stops the job and lets it go on.
TEST(Worker, TimeInWhichThisProcessIsStoppedIsNoHang) {
  Worker worker(options("hangs"));
  const auto start = std::chrono::steady_clock::now();
  const pid_t stopper = fork();
  if (stopper == 0) {
    usleep(200'000);
    kill(getppid(), SIGSTOP);
    usleep(2'000'000);
    kill(getppid(), SIGCONT);
    _exit(0);
  }
  const Reply reply = worker.run(rms_norm(), {.timeout = 1s});
  const auto took = std::chrono::steady_clock::now() - start;
  waitpid(stopper, nullptr, 0);
  EXPECT_EQ(reply.outcome, Outcome::timeout) << reply.message;
  EXPECT_GE(took, 2800ms);
}

class Survives : public testing::TestWithParam<Death> {};

TEST_P(Survives, AndIsReported) {
  const auto& [candidate, outcome, words] = GetParam();
  Worker worker(options(candidate));
  for (int round = 0; round < 2; ++round) {
    const Reply reply = worker.run(rms_norm());
    EXPECT_EQ(reply.outcome, outcome) << to_string(reply.outcome) << ": " << reply.message;
    EXPECT_TRUE(reply.message.starts_with("rms_norm.forward: ")) << reply.message;
    expect_says(reply.message, words);
  }
  EXPECT_EQ(worker.restarts(), 0);
}

INSTANTIATE_TEST_SUITE_P(
    Worker, Survives,
    testing::Values(Death{"refuses_everything", Outcome::not_supported, {"not today"}},
                    Death{"returns_error", Outcome::error, {"run: an illegal memory access was encountered"}},
                    Death{"bad_contract", Outcome::error, {"contract: multiply = 77; want 0 .. 3"}},
                    Death{"huge_saved", Outcome::out_of_memory, {"saved_bytes", "1152921504606846976", "memory limit"}},
                    Death{"huge_workspace", Outcome::out_of_memory, {"workspace_bytes", "memory limit"}}),
    [](const auto& param) { return param.param.candidate; });

TEST(Worker, KillsWhatEatsMemoryBeforeTheMachineSuffers) {
  Worker worker(options("eats_memory"));
  const Reply reply = worker.run(rms_norm(), {.timeout = 60s});
  EXPECT_EQ(reply.outcome, Outcome::out_of_memory);
  expect_says(reply.message, {"killed in run", "resident memory", "limit of 256.0 MiB"});
  EXPECT_FALSE(has_children());
}

TEST(Worker, SaysThatACallIsTooLargeForTheLimit) {
  Worker worker(options("base"));
  const Reply reply = worker.run(rms_norm(9000, 4096));  // 141 MiB a tensor
  EXPECT_EQ(reply.outcome, Outcome::out_of_memory);
  expect_says(reply.message, {"its tensors need", "256.0 MiB"});
}

TEST(Worker, NoticesADeathBetweenTwoCalls) {
  Worker worker(options("dies_idle"));
  EXPECT_EQ(worker.run(rms_norm()).outcome, Outcome::completed);
  std::this_thread::sleep_for(200ms);
  const Reply reply = worker.run(rms_norm());
  EXPECT_EQ(reply.outcome, Outcome::crashed);
  expect_says(reply.message, {"exited with code 9"});
  EXPECT_EQ(worker.run(rms_norm()).outcome, Outcome::completed);
}

TEST(Worker, IsNotHarmedByAShrunkenSharedFile) {
  Worker worker(options("shrinks_files"));
  expect_right(worker.run(rms_norm(64, 4096)), rms_norm(64, 4096));
}

TEST(Worker, SurvivesMegabytesOfOutputAndKeepsBothEnds) {
  Worker worker(options("prints_megabytes"));
  const Reply reply = worker.run(rms_norm());
  expect_right(reply, rms_norm());
  EXPECT_LT(reply.printed.size(), std::size_t{40} << 10);
  expect_says(reply.printed, {"line      0 of", "line 131071 of", "bytes left out"});
}

TEST(Worker, MakesTextOfWhatIsNone) {
  Worker worker(options("speaks_binary"));
  EXPECT_EQ(worker.info().name, "\\xF0 1");
  const Reply reply = worker.run(rms_norm());
  expect_says(reply.message, {"run: \\x01\\xC3 failed", "\\x1B[2J\\xFF\\xFE"});
}

// ---- candidates that answer, wrongly

TEST(Findings, AFenceBehindAnOutput) {
  Worker worker(options("writes_past"));
  const Reply reply = worker.run(rms_norm());
  ASSERT_EQ(reply.fences.size(), 1u);
  EXPECT_EQ(to_string(reply.fences[0]), "output.hidden_states: 4 bytes changed, the first 0 past its end");
}

TEST(Findings, AFenceBeforeAnOutput) {
  Worker worker(options("writes_before"));
  const Reply reply = worker.run(rms_norm(4, 8, DType::bfloat16));
  ASSERT_EQ(reply.fences.size(), 1u);
  EXPECT_EQ(to_string(reply.fences[0]), "output.hidden_states: 2 bytes changed, the first 2 before its start");
}

TEST(Findings, AFenceInAGap) {
  Worker worker(options("writes_gap"));
  Call call = rms_norm();
  call.tensor("output.hidden_states").strides = {10, 1};
  const Reply reply = worker.run(call);
  ASSERT_EQ(reply.fences.size(), 1u);
  EXPECT_EQ(to_string(reply.fences[0]),
            "output.hidden_states: 4 bytes changed in the gaps of its strides, the first at byte 32");
}

TEST(Findings, AFenceBehindTheWorkspace) {
  Worker worker(options("writes_past_workspace"));
  const Reply reply = worker.run(rms_norm());
  ASSERT_EQ(reply.fences.size(), 1u);
  EXPECT_EQ(to_string(reply.fences[0]), "workspace: 1 byte changed, the first 0 past its end");
}

TEST(Findings, OutputsThatWereNotWritten) {
  Worker worker(options("writes_nothing"));
  const Reply reply = worker.run(rms_norm());
  ASSERT_EQ(reply.unwritten.size(), 1u);
  EXPECT_EQ(reply.unwritten[0].tensor, "output.hidden_states");
  EXPECT_EQ(reply.unwritten[0].first, 0);
  EXPECT_EQ(reply.unwritten[0].count, 32);
}

TEST(Findings, OutputsThatWereHalfWritten) {
  Worker worker(options("writes_half"));
  for (const DType dtype : {DType::float32, DType::bfloat16}) {
    const Reply reply = worker.run(rms_norm(5, 7, dtype));
    ASSERT_EQ(reply.unwritten.size(), 1u);
    EXPECT_EQ(reply.unwritten[0].first, 14);
    EXPECT_EQ(reply.unwritten[0].count, 21);
  }
}

TEST(Findings, AnInputThatChanged) {
  Worker worker(options("changes_inputs"));
  Call call = rms_norm();
  call.tensor("input.hidden_states").strides = {11, 1};
  const Reply reply = worker.run(call);
  ASSERT_EQ(reply.changed.size(), 1u);
  EXPECT_EQ(reply.changed[0].tensor, "input.hidden_states");
  EXPECT_EQ(reply.changed[0].first, 0);
  EXPECT_EQ(reply.changed[0].count, 1);
  EXPECT_TRUE(reply.fences.empty());
}

TEST(Findings, WrongValuesAreHandedOverAsTheyAre) {
  Worker zeros(options("returns_zeros")), copies(options("copies_inputs"));
  const Call call = rms_norm();
  const Reply zero = zeros.run(call), copy = copies.run(call);
  expect_clean(zero);
  expect_clean(copy);
  EXPECT_EQ(zero.find("output.hidden_states")->bytes, std::vector<std::byte>(128, std::byte{0}));
  EXPECT_EQ(copy.find("output.hidden_states")->bytes, call.tensor("input.hidden_states").bytes);
}

TEST(Findings, TwoRunsOfOneCallShowWhatIsNotDeterministic) {
  Worker steady(options("base")), fickle(options("answers_differently"));
  const Call call = rms_norm();
  EXPECT_EQ(steady.run(call).find("output.hidden_states")->bytes, steady.run(call).find("output.hidden_states")->bytes);
  EXPECT_NE(fickle.run(call).find("output.hidden_states")->bytes, fickle.run(call).find("output.hidden_states")->bytes);
}

TEST(Findings, TwoPoisonsShowWhatReadsMemoryThatNobodyWrote) {
  Worker steady(options("base")), reads(options("reads_output"));
  const Call call = rms_norm();
  const auto output = [&](Worker& worker, int poison) {
    return worker.run(call, {.poison = poison}).find("output.hidden_states")->bytes;
  };
  EXPECT_EQ(output(steady, 0), output(steady, 1));
  EXPECT_NE(output(reads, 0), output(reads, 1));
}

TEST(Findings, AWorkspaceIsZeroedWhereTheContractSaysSo) {
  Worker worker(options("needs_zeroed_workspace"));
  for (int round = 0; round < 3; ++round) {
    const Reply reply = worker.run(rms_norm());
    expect_right(reply, rms_norm());
    EXPECT_TRUE(reply.contract.workspace_zeroed);
  }
}

// An operation on bytes, where the poison is a legal value: the second pattern tells it from an element left alone.
TEST(Findings, AByteThatEqualsThePoisonIsNotUnwritten) {
  Worker worker(options("copies_bytes"));
  Call call{.op = "copy.forward",
            .attributes = {},
            .tensors = {make_tensor("input.x", Role::in, DType::uint8, {4}),
                        make_tensor("output.y", Role::out, DType::uint8, {5})}};
  call.tensors[0].bytes = {std::byte{0xA5}, std::byte{0x5A}, std::byte{0xA5}, std::byte{0}};
  for (const int poison : {0, 1}) {
    const Reply reply = worker.run(call, {.poison = poison});
    ASSERT_EQ(reply.outcome, Outcome::completed) << reply.message;
    ASSERT_EQ(reply.unwritten.size(), 1u);
    EXPECT_EQ(reply.unwritten[0].first, 4);  // the fifth byte, which has no source
    EXPECT_EQ(reply.unwritten[0].count, 1);
    EXPECT_TRUE(std::equal(call.tensors[0].bytes.begin(), call.tensors[0].bytes.end(), reply.outputs[0].bytes.begin()));
  }
}

// ---- a worker that is not ours

TEST(PythonWorker, SpeaksTheProtocol) {
  if (std::system("python3 -c pass >/dev/null 2>&1") != 0) GTEST_SKIP() << "no python3 here";
  WorkerOptions o = options("base");
  o.worker = std::filesystem::path(ASSAY_TEST_SOURCE) / "testing/python_worker.py";
  Worker worker(o);
  EXPECT_EQ(worker.info().name, "python");
  for (int round = 0; round < 3; ++round) {
    const Reply reply = worker.run(rms_norm());
    expect_right(reply, rms_norm());
    expect_clean(reply);
  }
  Call unknown = rms_norm();
  unknown.op = "attention.forward";
  EXPECT_EQ(worker.run(unknown).outcome, Outcome::not_supported);
}

}  // namespace
}  // namespace assay::harness
