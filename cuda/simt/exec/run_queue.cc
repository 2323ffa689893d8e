#include "cuda/simt/exec/run_queue.h"

#include <bit>

namespace simt {

void RunQueue::reset(Order order, unsigned threads, unsigned warps) {
  order_ = order;
  size_ = head_ = tail_ = 0;
  if (ring_.size() < threads) {
    ring_.resize(std::bit_ceil(threads));
    mask_ = static_cast<unsigned>(ring_.size()) - 1;
  }
  ready_warps_.clear();
  ready_warps_.reserve(warps);
  hot_ = nullptr;
}

void RunQueue::push_skewed(Fiber* fiber) {
  Warp* warp = fiber->warp;
  warp->ready |= 1u << fiber->lane;
  if (!warp->queued) {
    warp->queued = true;
    ready_warps_.push_back(warp);
  }
}

Fiber* RunQueue::pop_skewed(Random& random) {
  while (hot_ == nullptr || hot_->ready == 0) {
    const unsigned chosen = random.below(static_cast<unsigned>(ready_warps_.size()));
    hot_ = ready_warps_[chosen];
    if (hot_->ready != 0) break;
    hot_->queued = false;
    ready_warps_[chosen] = ready_warps_.back();
    ready_warps_.pop_back();
  }
  const int lane = std::countr_zero(hot_->ready);
  hot_->ready &= hot_->ready - 1;
  return hot_->lanes[static_cast<std::size_t>(lane)];
}

}  // namespace simt
