#include "harness/worker/client.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstring>
#include <optional>
#include <span>
#include <utility>

#include "harness/worker/captured_output.h"
#include "harness/worker/process.h"
#include "harness/worker/protocol.h"
#include "harness/worker/shared_file.h"
#include "harness/worker/wire.h"

namespace assay::harness {
namespace {

using Clock = std::chrono::steady_clock;
using protocol::Malformed;
using protocol::RunStatus;
using protocol::Stage;

constexpr auto kWatchInterval = std::chrono::milliseconds(10);  // of resident memory, deadline and death
constexpr auto kLongestStep = std::chrono::milliseconds(100);   // from one watch to the next while the process runs
constexpr auto kDeathGrace = std::chrono::milliseconds(1000);   // from a closed connection to the end of the process
constexpr std::uint64_t kFirstFileBytes = std::uint64_t{1} << 20;
constexpr std::uint64_t kFirstSavedBytes = std::uint64_t{64}
                                           << 10;  // room for a written saved tensor, until one asks for more
constexpr std::uint64_t kKeepFileBytes = std::uint64_t{64} << 20;  // of resident shared memory, between requests

std::pair<Fd, Fd> connected_sockets() {
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) {
    throw std::runtime_error(fmt::format("worker process: socketpair: {}", std::strerror(errno)));
  }
  return {Fd(fds[0]), Fd(fds[1])};
}

std::pair<Fd, Fd> output_pipe() {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0)
    throw std::runtime_error(fmt::format("worker process: pipe: {}", std::strerror(errno)));
  fcntl(fds[0], F_SETFL, O_NONBLOCK);
  return {Fd(fds[0]), Fd(fds[1])};
}

std::string in_mebibytes(std::uint64_t bytes) {
  return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / (1 << 20));
}

std::string with_output(const std::string& message, const std::string& printed) {
  const std::string lines = telling_lines(printed);
  if (lines.empty()) return message;
  std::string indented = lines;
  for (std::size_t at = 0; (at = indented.find('\n', at)) != std::string::npos; at += 5)
    indented.insert(at + 1, "    ");
  return message + "\n  it printed:\n    " + indented;
}

// How a wait for the worker ended, when not with an answer.
struct Fault {
  Outcome outcome;
  std::string what;  // "died of signal 11 (SIGSEGV, Segmentation fault) in run"
};

}  // namespace

class Worker::Impl {
 public:
  explicit Impl(WorkerOptions options) : options_(std::move(options)) { start(); }
  ~Impl() { stop(); }

  const CandidateInfo& info() const { return info_; }
  std::int64_t restarts() const { return starts_ - 1; }

  Reply run(const Call& call, const RunRequest& request) {
    check(call);
    Reply reply;
    if (const std::uint64_t bytes = storage_bytes(call); bytes > options_.memory_limit_bytes) {
      return failed(call, Outcome::out_of_memory,
                    fmt::format("its tensors need {} of memory; the limit is {}", in_mebibytes(bytes),
                                in_mebibytes(options_.memory_limit_bytes)));
    }
    if (!process_.running()) {
      try {
        start();
      } catch (const std::runtime_error& error) {
        return failed(call, Outcome::crashed,
                      fmt::format("the candidate could not be started again: {}", error.what()));
      }
    }
    const int schedule = checked_schedule(call, request);
    printed_.clear();
    for (;;) {
      const SlotPlan plan = plan_slots(call, saved_room_);
      const std::optional<RanFrame> frame = exchange(call, request, schedule, plan, reply);
      if (frame && frame->status == RunStatus::needs_room && frame->saved_bytes > saved_room_ &&
          frame->saved_bytes <= options_.memory_limit_bytes) {
        saved_room_ = std::bit_ceil(frame->saved_bytes);
        continue;
      }
      if (frame) finish(call, *frame, plan, reply);
      if (plan.file_bytes > kKeepFileBytes) shared_->give_back_memory();
      return reply;
    }
  }

 private:
  int checked_schedule(const Call& call, const RunRequest& request) const {
    if (request.count && !info_.can_count)
      throw std::invalid_argument(fmt::format("{}: count = true; {} cannot count", call.op, info_.name));
    if (info_.schedules.empty()) return -1;
    if (request.schedule < 0 || request.schedule >= static_cast<int>(info_.schedules.size())) {
      throw std::invalid_argument(
          fmt::format("{}: schedule = {}; the candidate has {}", call.op, request.schedule, info_.schedules.size()));
    }
    return request.schedule;
  }

  // ---- starting and stopping

  void start() {
    check_files();
    const std::string candidate = std::filesystem::absolute(options_.candidate).string();
    auto [socket, worker_socket] = connected_sockets();
    auto [output, worker_output] = output_pipe();
    shared_ = std::make_unique<SharedFile>(kFirstFileBytes);
    const Fd null(open("/dev/null", O_RDONLY | O_CLOEXEC));
    process_ = Process(
        {options_.worker.string(), candidate},
        {null.get(), worker_output.get(), worker_output.get(), worker_socket.get(), worker_socket.get(), shared_->fd()},
        options_.environment);
    ++starts_;
    socket_ = std::move(socket);
    output_ = std::move(output);
    printed_.clear();
    worker_socket.reset();  // its end and the output's must be the worker's alone, so that they close when it dies
    worker_output.reset();
    receive_loaded(candidate);
  }

  void check_files() const {
    if (access(options_.worker.c_str(), X_OK) != 0) {
      throw std::runtime_error(fmt::format("{}: {}; want the assay_worker executable: build the target assay_worker",
                                           options_.worker.string(), std::strerror(errno)));
    }
    std::error_code error;
    const auto status = std::filesystem::status(options_.candidate, error);
    if (!std::filesystem::exists(status)) {
      throw std::runtime_error(fmt::format("{}: no such file; want a candidate, a shared library that exports {}",
                                           options_.candidate.string(), ASSAY_CANDIDATE_SYMBOL));
    }
    if (!std::filesystem::is_regular_file(status)) {
      throw std::runtime_error(fmt::format("{}: not a file; want a candidate, a shared library that exports {}",
                                           options_.candidate.string(), ASSAY_CANDIDATE_SYMBOL));
    }
  }

  void receive_loaded(const std::string& candidate) {
    std::vector<std::byte> payload;
    if (const auto fault = converse({}, protocol::Frame::loaded, options_.load_timeout, payload)) {
      throw std::runtime_error(
          with_output(fmt::format("{}: cannot be loaded: the worker {} {}", candidate, options_.worker.string(), fault->what), printed_.text()));
    }
    LoadedFrame frame;
    try {
      frame = decode_loaded(payload);
    } catch (const Malformed& malformed) {
      frame.text =
          fmt::format("the worker's first message is malformed: {}; want a worker that speaks protocol version {}",
                      malformed.what, protocol::kVersion);
    }
    if (frame.status == protocol::LoadStatus::ok) {
      info_ = std::move(frame.info);
      return;
    }
    drain_output();
    stop();
    if (frame.status == protocol::LoadStatus::no_device) {
      throw NoDevice(fmt::format("{}: no device for it here: {}", candidate,
                                 frame.text.empty() ? "it gives no reason" : frame.text));
    }
    throw std::runtime_error(with_output(fmt::format("{}: {}", candidate, frame.text), printed_.text()));
  }

  // Lets the worker leave by itself, so that it can let go of a device in order; kills it if it does not.
  void stop() {
    if (!process_.running()) return;
    socket_.reset();
    wait_for_death(std::chrono::milliseconds(200));
    process_.end();
  }

  bool wait_for_death(std::chrono::milliseconds limit) const {
    for (const auto deadline = Clock::now() + limit; Clock::now() < deadline; poll(nullptr, 0, 1)) {
      if (process_.has_died()) return true;
    }
    return process_.has_died();
  }

  // ---- one request

  // Sends the request and receives the answer. Without an answer the reply is complete: it says why.
  std::optional<RanFrame> exchange(const Call& call, const RunRequest& request, int schedule, const SlotPlan& plan,
                                   Reply& reply) {
    if (plan.file_bytes > shared_->size()) shared_->grow(std::bit_ceil(plan.file_bytes));
    for (std::size_t i = 0; i < call.tensors.size(); ++i) {
      const HostTensor& t = call.tensors[i];
      const bool is_sent =
          t.role == Role::in || t.role == Role::inout || (t.role == Role::saved && !is_written_saved(t));
      if (is_sent && !t.bytes.empty())
        std::memcpy(shared_->data() + plan.slots[i].offset, t.bytes.data(), t.bytes.size());
    }
    const auto frame = encode_run(call, plan, request, schedule, shared_->size(), options_.memory_limit_bytes);
    if (frame.size() > protocol::kMaxPayload)
      throw std::invalid_argument(fmt::format("{}: its description exceeds 16 MiB", call.op));
    std::vector<std::byte> payload;
    if (const auto fault = converse(frame, protocol::Frame::ran, request.timeout, payload)) {
      reply = failed(call, fault->outcome, "the candidate " + fault->what);
      return std::nullopt;
    }
    drain_output();
    try {
      return decode_ran(payload, call);
    } catch (const Malformed& malformed) {
      reply = nonsense(call, malformed.what);
      return std::nullopt;
    }
  }

  void finish(const Call& call, const RanFrame& frame, const SlotPlan& plan, Reply& reply) {
    switch (frame.status) {
      case RunStatus::not_supported:
        reply = failed(call, Outcome::not_supported,
                       frame.text.empty() ? "not supported; the candidate gives no reason" : frame.text);
        return;
      case RunStatus::error:
        reply = failed(call, Outcome::error, frame.text);
        return;
      case RunStatus::too_large:
        reply = failed(call, Outcome::out_of_memory, frame.text);
        return;
      case RunStatus::needs_room:
        reply = nonsense(call, "it asks for room that it has");
        return;
      case RunStatus::malformed:
        reply = nonsense(call, "it does not understand the request: " + frame.text);
        return;
      case RunStatus::completed:
        break;
    }
    if (!frame.contract_error.empty()) {
      reply = failed(call, Outcome::error, frame.contract_error);
      return;
    }
    reply.outcome = Outcome::completed;
    reply.contract = frame.contract;
    reply.variant = frame.variant;
    reply.fences = frame.fences;
    reply.changed = frame.changed;
    reply.unwritten = frame.unwritten;
    reply.seconds = frame.seconds;
    reply.counters = frame.counters;
    reply.printed = printed_.text();
    for (std::size_t i = 0; i < call.tensors.size(); ++i) {
      const HostTensor& t = call.tensors[i];
      if (t.role == Role::in || (t.role == Role::saved && !is_written_saved(t)) || frame.absent[i]) continue;
      HostTensor& output = reply.outputs.emplace_back(HostTensor{
          .name = t.name, .role = t.role, .dtype = t.dtype, .shape = t.shape, .strides = t.strides, .bytes = {}});
      std::uint64_t bytes = plan.slots[i].bytes;
      if (is_written_saved(t)) {
        if (frame.saved_bytes > bytes) {
          reply = nonsense(call, "its saved tensor is larger than its slot");
          return;
        }
        bytes = frame.saved_bytes;
        output.shape = {static_cast<std::int64_t>(bytes)};
      }
      const std::byte* const from = shared_->data() + plan.slots[i].offset;
      output.bytes.assign(from, from + bytes);
    }
  }

  Reply failed(const Call& call, Outcome outcome, const std::string& what) const {
    Reply reply;
    reply.outcome = outcome;
    reply.printed = printed_.text();
    reply.message = with_output(fmt::format("{}: {}", call.op, what), reply.printed);
    return reply;
  }

  Reply nonsense(const Call& call, const std::string& what) {
    process_.end();
    return failed(call, Outcome::crashed, "the worker's answer is malformed: " + what);
  }

  // ---- the conversation

  // Sends `frame`, if any, and waits for a frame of type `wanted`. On a fault the process has been ended.
  std::optional<Fault> converse(std::span<const std::byte> frame, protocol::Frame wanted,
                                std::chrono::milliseconds timeout, std::vector<std::byte>& payload) {
    auto watched = Clock::now();
    Clock::duration waited{};
    received_.clear();
    if (!frame.empty() && !send_some(frame)) return lost_connection();
    for (;;) {
      pollfd files[2] = {
          {.fd = socket_.get(), .events = static_cast<short>(frame.empty() ? POLLIN : POLLIN | POLLOUT), .revents = 0},
          {.fd = output_.get(), .events = POLLIN, .revents = 0}};
      poll(files, output_.valid() ? 2 : 1, static_cast<int>(kWatchInterval.count()));
      if (files[1].revents != 0) read_output();
      if ((files[0].revents & POLLOUT) != 0 && !send_some(frame)) return lost_connection();
      if ((files[0].revents & (POLLIN | POLLHUP | POLLERR)) != 0) {
        if (!receive_some()) return lost_connection();
        if (const auto fault = take_frame(wanted, payload)) return fault;
        if (frame_taken_ && frame.empty()) return std::nullopt;
        if (frame_taken_)
          return kill_for(Outcome::crashed, "broke the protocol: it answered before it had read the request");
      }
      const auto now = Clock::now();
      if (now < watched + kWatchInterval) continue;
      // Time in which this process did not run, either, is none of the candidate's: a suspended machine, a stopped job.
      waited += std::min<Clock::duration>(now - watched, kLongestStep);
      watched = now;
      if (const std::size_t resident = process_.resident_bytes(); resident > options_.memory_limit_bytes) {
        return kill_for(Outcome::out_of_memory,
                        fmt::format("was killed{}: resident memory of {}, above the limit of {}", during(),
                                    in_mebibytes(resident), in_mebibytes(options_.memory_limit_bytes)));
      }
      if (waited >= timeout) {
        // The CPU executor runs a thread until it waits: a loop that polls memory must say so.
        const char* const remedy = info_.target.starts_with("cpu:")
                                       ? "; on a CPU a kernel's loop that polls memory must call simt::spin_yield()"
                                       : "";
        return kill_for(Outcome::timeout, fmt::format("was killed{}: no answer within {} s{}", during(),
                                                      std::chrono::duration<double>(timeout).count(), remedy));
      }
      if (process_.has_died()) return lost_connection();  // its connection may live on in a process that it started
    }
  }

  bool send_some(std::span<const std::byte>& frame) {
    const ssize_t sent = send(socket_.get(), frame.data(), frame.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) return errno == EAGAIN || errno == EINTR;
    frame = frame.subspan(static_cast<std::size_t>(sent));
    return true;
  }

  bool receive_some() {
    std::byte buffer[1 << 14];
    const ssize_t got = recv(socket_.get(), buffer, sizeof buffer, MSG_DONTWAIT);
    if (got < 0) return errno == EAGAIN || errno == EINTR;
    received_.insert(received_.end(), buffer, buffer + got);
    return got > 0;
  }

  // Takes the frame out of received_ once it is complete, and says so in frame_taken_.
  std::optional<Fault> take_frame(protocol::Frame wanted, std::vector<std::byte>& payload) {
    frame_taken_ = false;
    if (received_.size() < protocol::kFrameHeader) return std::nullopt;
    protocol::Decoder header(received_.data(), received_.size());
    const auto bytes = header.get<std::uint32_t>();
    const auto type = header.get<std::uint32_t>();
    const std::size_t end = protocol::kFrameHeader + std::size_t{bytes};
    if (type != static_cast<std::uint32_t>(wanted) || bytes > protocol::kMaxPayload || received_.size() > end) {
      return kill_for(Outcome::crashed,
                      fmt::format("broke the protocol{}: it sent something else than one answer", during()));
    }
    if (received_.size() < end) return std::nullopt;
    payload.assign(received_.begin() + protocol::kFrameHeader, received_.end());
    frame_taken_ = true;
    return std::nullopt;
  }

  // ---- faults

  Fault kill_for(Outcome outcome, std::string what) {
    process_.end();
    drain_output();
    return {outcome, std::move(what)};
  }

  Fault lost_connection() {
    const bool died = wait_for_death(kDeathGrace);
    const std::string stage = during();
    std::optional<int> exit_code;
    std::string ending = process_.end(&exit_code);
    drain_output();
    if (!died || exit_code == protocol::kExitLostConnection)
      ending = "closed the files that connect the worker to its parent";
    return {Outcome::crashed, ending + stage};
  }

  // " in run", for messages.
  std::string during() const {
    auto* const word = reinterpret_cast<std::uint32_t*>(shared_->data());
    const auto stage = static_cast<Stage>(std::atomic_ref<std::uint32_t>(*word).load(std::memory_order_relaxed));
    return stage == Stage::idle ? "" : fmt::format(" in {}", protocol::name(stage));
  }

  // ---- what the candidate prints

  // One read; false when there is nothing more now.
  bool read_output() {
    char buffer[1 << 16];
    const ssize_t got = read(output_.get(), buffer, sizeof buffer);
    if (got > 0) printed_.append({buffer, static_cast<std::size_t>(got)});
    if (got == 0) output_.reset();  // nobody can write to it any more
    return got > 0;
  }

  void drain_output() {
    // What a pipe holds, several times over: a process that escaped the kill may go on writing.
    for (int reads = 0; reads < 64 && output_.valid() && read_output(); ++reads) {
    }
  }

  WorkerOptions options_;
  CandidateInfo info_;
  std::int64_t starts_ = 0;
  std::unique_ptr<SharedFile> shared_;
  Fd socket_, output_;
  Process process_;
  CapturedOutput printed_;
  std::vector<std::byte> received_;
  bool frame_taken_ = false;
  std::uint64_t saved_room_ = kFirstSavedBytes;
};

Worker::Worker(WorkerOptions options) : impl_(std::make_unique<Impl>(std::move(options))) {}
Worker::~Worker() = default;
Worker::Worker(Worker&&) noexcept = default;
Worker& Worker::operator=(Worker&&) noexcept = default;
const CandidateInfo& Worker::info() const { return impl_->info(); }
Reply Worker::run(const Call& call, const RunRequest& request) { return impl_->run(call, request); }
std::int64_t Worker::restarts() const { return impl_->restarts(); }

const HostTensor* Reply::find(std::string_view tensor) const {
  const auto found =
      std::find_if(outputs.begin(), outputs.end(), [&](const HostTensor& t) { return t.name == tensor; });
  return found == outputs.end() ? nullptr : &*found;
}

const char* to_string(Outcome outcome) {
  switch (outcome) {
    case Outcome::completed:
      return "completed";
    case Outcome::not_supported:
      return "not supported";
    case Outcome::error:
      return "error";
    case Outcome::crashed:
      return "crashed";
    case Outcome::timeout:
      return "timeout";
    case Outcome::out_of_memory:
      return "out of memory";
  }
  return "unknown";
}

std::string to_string(const Contract& contract) {
  constexpr const char* kMultiply[] = {"ieee", "tf32", "3xtf32", "bf16"};
  constexpr const char* kAccumulate[] = {"fp32", "fp32 in tensor cores", "fp64"};
  return fmt::format("{}, {}, {}{}{}{}{}", kMultiply[contract.multiply], kAccumulate[contract.accumulate],
                     contract.deterministic ? "deterministic" : "not deterministic",
                     contract.flush_denormals ? ", denormals flushed" : "",
                     contract.softplus == ASSAY_SOFTPLUS_NAIVE ? ", naive softplus" : "",
                     contract.functions == ASSAY_FUNCTIONS_FAST ? ", fast functions" : "",
                     contract.workspace_zeroed ? ", zeroed workspace" : "");
}

std::string to_string(const FenceViolation& violation) {
  const auto& [tensor, where, offset, bytes] = violation;
  const std::string changed = fmt::format("{}: {} byte{} changed", tensor, bytes, bytes == 1 ? "" : "s");
  switch (where) {
    case FenceViolation::Where::before:
      return fmt::format("{}, the first {} before its start", changed, -offset);
    case FenceViolation::Where::after:
      return fmt::format("{}, the first {} past its end", changed, offset);
    case FenceViolation::Where::gap:
      break;
  }
  return fmt::format("{} in the gaps of its strides, the first at byte {}", changed, offset);
}

}  // namespace assay::harness
