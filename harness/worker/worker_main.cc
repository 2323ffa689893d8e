// assay_worker CANDIDATE: loads one candidate and runs calls for its parent until that hangs up. PROTOCOL.md.
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "harness/worker/executor.h"
#include "harness/worker/library.h"
#include "harness/worker/protocol.h"

namespace assay::harness {
namespace {

using protocol::Decoder;
using protocol::Encoder;
using protocol::Frame;
using protocol::Malformed;

[[noreturn]] void leave(int code, const char* why) {
  if (why) std::fprintf(stderr, "assay_worker: %s\n", why);
  _exit(code);  // no destructors: a candidate's may hang or crash
}

// False at the end of the stream.
bool read_all(std::byte* to, std::size_t bytes) {
  while (bytes > 0) {
    const ssize_t got = read(protocol::kRequestFd, to, bytes);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) leave(protocol::kExitLostConnection, "cannot read requests");
    if (got == 0) return false;
    to += got;
    bytes -= static_cast<std::size_t>(got);
  }
  return true;
}

void write_all(const std::vector<std::byte>& frame) {
  const std::byte* from = frame.data();
  for (std::size_t left = frame.size(); left > 0;) {
    const ssize_t sent = write(protocol::kReplyFd, from, left);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) leave(protocol::kExitLostConnection, "cannot write replies");
    from += sent;
    left -= static_cast<std::size_t>(sent);
  }
}

class SharedMapping {
 public:
  SharedMapping() {
    struct stat status {};
    if (fstat(protocol::kSharedFd, &status) != 0) leave(2, "file descriptor 5 is not the shared file; see PROTOCOL.md");
    grow(static_cast<std::size_t>(status.st_size));
  }
  void grow(std::size_t bytes) {
    if (bytes <= bytes_) return;
    if (data_) munmap(data_, bytes_);
    void* const mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, protocol::kSharedFd, 0);
    if (mapped == MAP_FAILED) leave(protocol::kExitLostConnection, "cannot map the shared file");
    data_ = static_cast<std::byte*>(mapped);
    bytes_ = bytes;
  }
  std::byte* data() const { return data_; }
  std::uint32_t* stage_word() const { return reinterpret_cast<std::uint32_t*>(data_); }

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

// Ends the process when the parent is gone while a candidate hangs. An idle worker has left on its own by then.
void* watch_parent(void*) {
  pollfd hangup{.fd = protocol::kRequestFd, .events = POLLRDHUP, .revents = 0};
  while (poll(&hangup, 1, -1) < 0 && errno == EINTR) {
  }
  poll(nullptr, 0, 1000);
  if (getpgrp() == getpid()) kill(0, SIGKILL);
  _exit(protocol::kExitLostConnection);
}

void start_watching_parent() {
  sigset_t all, before;  // signals stay the main thread's business
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t thread;
  if (pthread_create(&thread, nullptr, watch_parent, nullptr) != 0) leave(2, "cannot start a thread");
  pthread_detach(thread);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void send_loaded(const LoadResult& result) {
  Encoder out(Frame::loaded);
  out.put(protocol::kMagic);
  out.put(protocol::kVersion);
  out.put(result.status);
  out.put(std::string_view(result.text));
  if (result.status == protocol::LoadStatus::ok) {
    const assay_candidate& table = *result.table;
    out.put(std::string_view(table.name));
    out.put(std::string_view(result.target));
    out.put(table.abi_version);
    out.put(std::uint32_t{can_count(table)});
    out.put(static_cast<std::uint32_t>(table.schedule_count));
    for (std::int32_t i = 0; i < table.schedule_count; ++i) {
      out.put(std::string_view(table.schedules[i].name));
      out.put(std::string_view(table.schedules[i].arithmetic));
    }
  }
  write_all(out.finish());
}

// The next request's payload; false when the parent hangs up.
bool read_request(std::vector<std::byte>& payload) {
  std::byte header[protocol::kFrameHeader];
  if (!read_all(header, sizeof header)) return false;
  Decoder decoder(header, sizeof header);
  const auto bytes = decoder.get<std::uint32_t>();
  const auto type = decoder.get<std::uint32_t>();
  if (type != static_cast<std::uint32_t>(Frame::run) || bytes > protocol::kMaxPayload)
    leave(2, "not a request on file descriptor 3");
  payload.resize(bytes);
  return read_all(payload.data(), bytes);
}

std::optional<Request> decode(const std::vector<std::byte>& payload, Encoder& reply) {
  try {
    Decoder decoder(payload.data(), payload.size());
    return decode_request(decoder);
  } catch (const Malformed& malformed) {
    reply.start(Frame::ran);
    reply.put(protocol::RunStatus::malformed);
    reply.put(std::string_view(malformed.what));
    reply.put(std::uint64_t{0});
    return std::nullopt;
  }
}

int work(const char* candidate_path) {
  // A crash must not lose what was printed before it.
  setvbuf(stdout, nullptr, _IONBF, 0);
  SharedMapping shared;
  StageMark stage(shared.stage_word());
  start_watching_parent();
  const LoadResult loaded = load_candidate(candidate_path, stage);
  send_loaded(loaded);
  if (loaded.status != protocol::LoadStatus::ok) return 0;

  Executor executor(*loaded.table, stage);
  std::vector<std::byte> payload;
  Encoder reply(Frame::ran);
  while (read_request(payload)) {
    if (auto request = decode(payload, reply)) {
      shared.grow(request->shared_bytes);
      stage.move_to(shared.stage_word());
      executor.run(std::move(*request), shared.data(), reply);
    }
    write_all(reply.finish());
  }
  return 0;
}

}  // namespace
}  // namespace assay::harness

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("assay_worker CANDIDATE: loads a candidate library and runs calls for `assay`, which starts it.\n",
               stderr);
    return 2;
  }
  assay::harness::leave(assay::harness::work(argv[1]), nullptr);
}
