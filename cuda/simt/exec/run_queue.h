// The runnable threads of one worker, in the order of the schedule. All operations are O(1).
#pragma once

#include <vector>

#include "cuda/simt/exec/block.h"
#include "cuda/simt/exec/schedule.h"

namespace simt {

class RunQueue {
 public:
  // Empties the queue for up to `threads` threads.
  void reset(Order order, unsigned threads, unsigned warps);

  bool empty() const { return size_ == 0; }

  void push(Fiber* fiber) {
    ++size_;
    if (order_ == Order::kSkew) {
      push_skewed(fiber);
    } else {
      ring_[tail_++ & mask_] = fiber;
    }
  }

  Fiber* pop(Random& random) {
    --size_;
    if (order_ == Order::kSkew) return pop_skewed(random);
    if (order_ == Order::kRandom) {
      const unsigned chosen = head_ + random.below(tail_ - head_);
      std::swap(ring_[head_ & mask_], ring_[chosen & mask_]);
    }
    return ring_[head_++ & mask_];
  }

  // Who comes next, where the schedule is as simple as that; else null or anybody.
  const Fiber* front() const { return tail_ != head_ ? ring_[head_ & mask_] : nullptr; }

  // Skew: lets another warp have its turn (the favoured one only waits).
  void cool() { hot_ = nullptr; }

 private:
  void push_skewed(Fiber* fiber);
  Fiber* pop_skewed(Random& random);

  Order order_ = Order::kAscending;
  unsigned size_ = 0;
  std::vector<Fiber*> ring_;  // a power of two
  unsigned head_ = 0, tail_ = 0, mask_ = 0;
  std::vector<Warp*> ready_warps_;  // skew: warps with ready lanes, and some whose last one has been taken
  Warp* hot_ = nullptr;
};

}  // namespace simt
