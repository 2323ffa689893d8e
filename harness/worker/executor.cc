#include "harness/worker/executor.h"

#include <algorithm>
#include <array>
#include <utility>

namespace assay::harness {
namespace {

using protocol::Encoder;
using protocol::RunStatus;
using protocol::Stage;
using protocol::Where;

constexpr std::size_t kKeepHostBytes = std::size_t{64} << 20;  // between requests

constexpr std::size_t kMaxCounters = 1024;

// The request as the candidate sees it. Pointers lead into the request, which must outlive it.
class CallView {
 public:
  CallView(const Request& request, const assay_candidate& candidate) {
    for (const RequestAttribute& a : request.attributes) {
      attributes_.push_back({.name = a.name.c_str(),
                             .kind = a.kind,
                             .reserved = 0,
                             .int_value = a.int_value,
                             .float_value = a.float_value,
                             .string_value = a.kind == ASSAY_ATTRIBUTE_STRING ? a.string_value.c_str() : nullptr});
    }
    for (const RequestTensor& t : request.tensors) {
      static std::int64_t no_axes[1] = {1};  // strides and shape of a scalar are not NULL either
      assay_tensor& tensor = tensors_.emplace_back();
      tensor = {};
      tensor.name = t.name.c_str();
      tensor.role = t.role;
      tensor.tensor.device = {static_cast<DLDeviceType>(candidate.device_type), candidate.device_id};
      tensor.tensor.ndim = static_cast<int>(t.shape.size());
      tensor.tensor.dtype = t.dtype;
      tensor.tensor.shape = t.shape.empty() ? no_axes : const_cast<std::int64_t*>(t.shape.data());
      tensor.tensor.strides = t.strides.empty() ? no_axes : const_cast<std::int64_t*>(t.strides.data());
    }
    call_ = {};
    call_.struct_size = sizeof call_;
    call_.op = request.op.c_str();
    call_.attributes = attributes_.data();
    call_.attribute_count = attributes_.size();
    call_.tensors = tensors_.data();
    call_.tensor_count = tensors_.size();
  }
  CallView(const CallView&) = delete;
  CallView& operator=(const CallView&) = delete;

  const assay_call* get() const { return &call_; }
  void set_data(std::size_t tensor, void* data) { tensors_[tensor].tensor.data = data; }
  void set_workspace(void* data, std::size_t bytes) {
    call_.workspace = data;
    call_.workspace_bytes = bytes;
  }

 private:
  std::vector<assay_attribute> attributes_;
  std::vector<assay_tensor> tensors_;
  assay_call call_;
};

void answer(Encoder& reply, RunStatus status, std::string_view text, std::uint64_t saved_bytes = 0) {
  reply.start(protocol::Frame::ran);
  reply.put(status);
  reply.put(text);
  reply.put(saved_bytes);
}

// One request on its way through the candidate. Each step returns false after it has written its refusal into the
// reply.
class Session {
 public:
  Session(Request&& request, const assay_candidate& candidate, const StageMark& stage, MemoryPool& pool,
          std::deque<HostCopies>& host, std::byte* shared, Encoder& reply)
      : request_(std::move(request)),
        candidate_(candidate),
        stage_(stage),
        pool_(pool),
        host_(host),
        shared_(shared),
        reply_(reply),
        call_(request_, candidate) {}
  ~Session() {
    stage_.set(Stage::free);
    pool_.give_back();
    std::size_t host_bytes = 0;
    for (const HostCopies& copies : host_) host_bytes += copies.bytes();
    if (host_bytes > kKeepHostBytes) host_.clear();
    stage_.set(Stage::idle);
  }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  void run() {
    if (!ask() || !allocate()) return;
    if (!attempt(request_.poison, 0)) return;
    const bool again = anything_unwritten();
    // The findings of the first attempt are taken before the second overwrites the images they refer to.
    Encoder findings = first_findings();
    if (again && !attempt(1 - request_.poison, 1)) return;
    report(findings, again);
  }

 private:
  bool ask() {
    std::array<char, 1024> text{};
    stage_.set(Stage::supports);
    if (candidate_.supports(call_.get(), text.data(), text.size()) == 0) {
      text.back() = '\0';
      return refuse(RunStatus::not_supported, text.data());
    }
    for (RequestTensor& t : request_.tensors) {
      if (!t.written_saved) continue;
      stage_.set(Stage::saved_bytes);
      saved_bytes_ = candidate_.saved_bytes(call_.get());
      if (!within_limit("saved_bytes", saved_bytes_)) return false;
      if (saved_bytes_ > t.slot_bytes) return refuse(RunStatus::needs_room, "", saved_bytes_);
      t.shape[0] = static_cast<std::int64_t>(saved_bytes_);
    }
    stage_.set(Stage::contract);
    contract_ = {};
    contract_.struct_size = sizeof contract_;
    if (const int code = candidate_.contract(call_.get(), &contract_); code != 0) {
      return refuse(RunStatus::error,
                    "contract: returned " + std::to_string(code) + " for a call that it supports; want 0");
    }
    stage_.set(Stage::variant);
    if (const char* variant = candidate_.variant(call_.get())) variant_ = variant;
    stage_.set(Stage::workspace_bytes);
    workspace_bytes_ = candidate_.workspace_bytes(call_.get());
    return within_limit("workspace_bytes", workspace_bytes_);
  }

  bool allocate() {
    stage_.set(Stage::allocate);
    std::string error;
    while (host_.size() <= request_.tensors.size()) host_.emplace_back();  // the last is for the workspace
    for (const RequestTensor& t : request_.tensors) {
      HostCopies& host = host_[tensors_.size()];
      tensors_.emplace_back(Layout(t.shape, t.strides, t.element_bytes()), static_cast<std::uint32_t>(tensors_.size()),
                            std::array{poison_of(t.dtype, 0), poison_of(t.dtype, 1)}, host);
    }
    if (workspace_bytes_ > 0) {
      const auto bytes = static_cast<std::int64_t>(workspace_bytes_), one = std::int64_t{1};
      tensors_.emplace_back(Layout({&bytes, 1}, {&one, 1}, 1), protocol::kWorkspaceIndex,
                            std::array{poison_of_bytes(0), poison_of_bytes(1)}, host_[tensors_.size()]);
    }
    for (GuardedTensor& t : tensors_) {
      if (!t.allocate(pool_, error)) return refuse(RunStatus::error, error);
    }
    for (std::size_t i = 0; i < request_.tensors.size(); ++i) call_.set_data(i, tensors_[i].data());
    if (workspace_bytes_ > 0) call_.set_workspace(tensors_.back().data(), workspace_bytes_);
    return true;
  }

  // Steps 2 to 4 of PROTOCOL.md with one poison. Keeps the downloads in `slot`.
  bool attempt(int poison, int slot) {
    for (std::size_t i = 0; i < request_.tensors.size(); ++i) {
      const RequestTensor& t = request_.tensors[i];
      tensors_[i].fill_image(poison, t.is_read() ? shared_ + t.slot_offset : nullptr);
    }
    if (workspace_bytes_ > 0) {
      contract_.workspace_zeroed ? tensors_.back().fill_image_with_zeros(poison)
                                 : tensors_.back().fill_image(poison, nullptr);
    }
    std::string error;
    stage_.set(Stage::upload);
    for (GuardedTensor& t : tensors_) {
      if (!t.upload(candidate_, error)) return refuse(RunStatus::error, error);
    }
    if (!launch(slot)) return false;
    stage_.set(Stage::download);
    for (std::size_t i = 0; i < tensors_.size(); ++i) {
      const bool is_result = i < request_.tensors.size() && (request_.tensors[i].role == ASSAY_ROLE_OUT ||
                                                             request_.tensors[i].role == ASSAY_ROLE_INOUT);
      if (!tensors_[i].download(candidate_, slot, is_result, error)) return refuse(RunStatus::error, error);
    }
    return true;
  }

  bool launch(int slot) {
    if (request_.schedule >= 0) {
      stage_.set(Stage::select_schedule);
      if (const int code = candidate_.select_schedule(request_.schedule, request_.seed); code != 0) {
        return refuse(RunStatus::error, "select_schedule: returned " + std::to_string(code) + "; want 0");
      }
    }
    if (can_count(candidate_)) {
      stage_.set(Stage::set_counting);
      if (const int code = candidate_.set_counting(request_.count); code != 0) {
        return refuse(RunStatus::error, "set_counting: returned " + std::to_string(code) + "; want 0");
      }
    }
    const auto start = std::chrono::steady_clock::now();
    if (!returns_zero(Stage::run,
                      [&](char* text, std::size_t size) { return candidate_.run(call_.get(), nullptr, text, size); })) {
      return false;
    }
    if (!returns_zero(Stage::synchronize,
                      [&](char* text, std::size_t size) { return candidate_.synchronize(nullptr, text, size); })) {
      return false;
    }
    if (slot == 0) seconds_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return true;
  }

  bool anything_unwritten() const {
    for (std::size_t i = 0; i < request_.tensors.size(); ++i) {
      if (!request_.tensors[i].is_judged_written() || is_absent(i)) continue;
      if (tensors_[i].unwritten(request_.poison, false).count > 0) return true;
    }
    return false;
  }

  // A tap that holds nothing but poison.
  bool is_absent(std::size_t i) const {
    const auto elements = static_cast<std::int64_t>(tensors_[i].layout().elements());
    return request_.tensors[i].role == ASSAY_ROLE_TAP && elements > 0 &&
           tensors_[i].unwritten(request_.poison, false).count == elements;
  }

  std::uint32_t wire_index(std::size_t i) const {
    return i < request_.tensors.size() ? static_cast<std::uint32_t>(i) : protocol::kWorkspaceIndex;
  }

  // The lists of changed fences and inputs.
  Encoder first_findings() const {
    Encoder out(protocol::Frame::ran);
    std::uint32_t count = 0;
    const std::size_t fences_at = begin_list(out);
    for (std::size_t i = 0; i < tensors_.size(); ++i) {
      for (const Where where : {Where::before, Where::after, Where::gap}) {
        const auto difference = tensors_[i].changed_fence(where);
        if (!difference) continue;
        out.put(wire_index(i));
        out.put(where);
        put(out, *difference, count);
      }
    }
    out.patch(fences_at, std::exchange(count, 0));
    const std::size_t changed_at = begin_list(out);
    for (std::size_t i = 0; i < request_.tensors.size(); ++i) {
      if (!request_.tensors[i].must_stay()) continue;
      const auto difference = tensors_[i].changed_elements();
      if (!difference) continue;
      out.put(wire_index(i));
      put(out, *difference, count);
    }
    out.patch(changed_at, count);
    return out;
  }

  void report(Encoder& findings, bool both) {
    answer(reply_, RunStatus::completed, "", saved_bytes_);
    for (const std::int32_t field :
         {contract_.multiply, contract_.accumulate, contract_.deterministic, contract_.flush_denormals,
          contract_.softplus, contract_.functions, contract_.workspace_zeroed}) {
      reply_.put(field);
    }
    reply_.put(std::string_view(variant_));
    reply_.put(seconds_);
    reply_.append(findings);

    std::uint32_t count = 0;
    const std::size_t unwritten_at = begin_list(reply_);
    for (std::size_t i = 0; both && i < request_.tensors.size(); ++i) {
      if (!request_.tensors[i].is_judged_written() || is_absent(i)) continue;
      const Difference found = tensors_[i].unwritten(request_.poison, true);
      if (found.count == 0) continue;
      reply_.put(wire_index(i));
      put(reply_, found, count);
    }
    reply_.patch(unwritten_at, std::exchange(count, 0));
    const std::size_t absent_at = begin_list(reply_);
    for (std::size_t i = 0; i < request_.tensors.size(); ++i) {
      if (!is_absent(i)) continue;
      reply_.put(wire_index(i));
      ++count;
    }
    reply_.patch(absent_at, std::exchange(count, 0));
    report_counters();

    for (std::size_t i = 0; i < request_.tensors.size(); ++i) {
      if (request_.tensors[i].comes_back()) tensors_[i].gather(shared_ + request_.tensors[i].slot_offset);
    }
  }

  void report_counters() {
    std::vector<assay_counter> counters;
    if (request_.count) {
      stage_.set(Stage::counters);
      counters.resize(kMaxCounters);
      counters.resize(std::min(candidate_.counters(counters.data(), counters.size()), counters.size()));
    }
    std::uint32_t count = 0;
    const std::size_t at = begin_list(reply_);
    for (const assay_counter& counter : counters) {
      if (!counter.name) continue;
      reply_.put(std::string_view(counter.name));
      reply_.put(counter.value);
      ++count;
    }
    reply_.patch(at, count);
  }

  static std::size_t begin_list(Encoder& out) {
    const std::size_t at = out.size();
    out.put(std::uint32_t{0});
    return at;
  }
  static void put(Encoder& out, const Difference& difference, std::uint32_t& count) {
    out.put(difference.first);
    out.put(difference.count);
    ++count;
  }

  bool within_limit(const char* function, std::size_t bytes) {
    if (bytes <= request_.memory_limit) return true;
    return refuse(RunStatus::too_large, std::string(function) + ": returned " + std::to_string(bytes) +
                                            " bytes; want at most " + std::to_string(request_.memory_limit) +
                                            ", the memory limit");
  }
  bool refuse(RunStatus status, std::string_view text, std::uint64_t saved_bytes = 0) {
    answer(reply_, status, text, saved_bytes);
    return false;
  }
  template <class F>
  bool returns_zero(Stage stage, F&& function) {
    std::array<char, 1024> text{};
    stage_.set(stage);
    const int code = function(text.data(), text.size());
    if (code == 0) return true;
    text.back() = '\0';
    const std::string reason =
        text[0] ? std::string(text.data()) : "returned " + std::to_string(code) + " without a text";
    return refuse(RunStatus::error, std::string(name(stage)) + ": " + reason);
  }

  Request request_;
  const assay_candidate& candidate_;
  const StageMark& stage_;
  MemoryPool& pool_;
  std::deque<HostCopies>& host_;
  std::byte* shared_;
  Encoder& reply_;
  CallView call_;
  std::vector<GuardedTensor> tensors_;  // the request's, then the workspace if there is one
  assay_contract contract_{};
  std::string variant_;
  std::size_t saved_bytes_ = 0, workspace_bytes_ = 0;
  double seconds_ = 0;
};

}  // namespace

void Executor::run(Request request, std::byte* shared, Encoder& reply) {
  if (request.schedule >= candidate_.schedule_count) {
    answer(reply, RunStatus::malformed, "a schedule that the candidate does not have");
    return;
  }
  if (request.count && !can_count(candidate_)) {
    answer(reply, RunStatus::malformed, "counting, which the candidate cannot do");
    return;
  }
  Session(std::move(request), candidate_, stage_, pool_, host_, shared, reply).run();
}

}  // namespace assay::harness
