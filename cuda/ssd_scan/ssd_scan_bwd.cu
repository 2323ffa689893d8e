// The state space scan, backward: the border, the plain version, and the sums over tokens that both versions end with.
//
// Computes   what ssd_scan_backward.h says, by the recurrence run backwards
// Source     Mamba-2; reference/ssd_scan_recurrence.h
// Numerics   states and their gradients in float, every sum in double, one rounding of each result
// Method     three launches. Along time, a thread for each row of a state: all states and their gradients go to the
//            workspace. Then a thread for each (token, head): d_x, d_z, d_dt and its terms of d_A, d_dt_bias, d_D; and
//            one for each (token, group, column): d_B, d_C. Then a block for each head sums the terms over tokens
// Versions   naive (here: a second opinion, and for sizes that chunked leaves), chunked (ssd_scan_bwd_chunked.cu)
// Cost       naive: 8 bytes of workspace for each element of the state of each token, some 40 bytes moved. Not a
// product Limits     naive: none but those of the dims
#include <algorithm>

#include "cuda/common/check.h"
#include "cuda/ssd_scan/backward.cuh"
#include "cuda/ssd_scan/backward_chunked.cuh"

namespace assay::gpu {
namespace ssd_scan {
namespace {

constexpr int kNaiveThreads = 128;
constexpr int kSumRows = 8, kSumColumns = 32;  // the threads of a block of sums

// [batch * seq_len, heads, head_dim, state_size]: states after each token, and the gradients of those.
struct States {
  float *h, *q;
};

template <class T>
struct Naive {
  const SsdScanDims& dims;
  const SsdScanBackward<T>& t;

  SIMT_DEV std::int64_t channels() const { return dims.heads * dims.head_dim; }
  // The first element of B's and C's rows that a head reads.
  SIMT_DEV std::int64_t vector(std::int64_t head) const { return head / (dims.heads / dims.groups) * dims.state_size; }
  // kappa_t exp(Delta_t A), `token` counted in its batch row.
  SIMT_DEV float decay(std::int64_t b, std::int64_t token, std::int64_t head) const {
    const std::int64_t at = b * dims.seq_len + token;
    if (t.seq_idx != nullptr && t.seq_idx[at] != (token > 0 ? t.seq_idx[at - 1] : 0)) return 0.0f;
    return expf(step_of(dims, t, at, head).delta * t.A[head]);
  }
  SIMT_DEV float gate(std::int64_t token, std::int64_t channel) const {
    return t.z != nullptr ? silu(to_float(t.z[token * dims.z_stride + channel])) : 1.0f;
  }
  SIMT_DEV float d_y(std::int64_t token, std::int64_t channel) const {
    return rounded<T>(to_float(t.d_y[token * channels() + channel]) * gate(token, channel));
  }
  SIMT_DEV float x(std::int64_t token, std::int64_t channel) const {
    return to_float(t.x[token * dims.x_stride + channel]);
  }
  SIMT_DEV float initial(std::int64_t i) const {
    return t.initial_state.data != nullptr ? scalar_at(t.initial_state, i) : 0.0f;
  }
};

// What a dropped state holds, an infinity perhaps, is nothing.
SIMT_DEV float kept(float decay, float state) { return decay == 0.0f ? 0.0f : decay * state; }

template <class T>
__global__ void __launch_bounds__(kNaiveThreads)
    ssd_scan_backward_states_kernel(SsdScanDims dims, SsdScanBackward<T> t, States states) {
  const Naive<T> naive{dims, t};
  const std::int64_t N = dims.state_size, channels = naive.channels();
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= dims.batch * channels) return;
  const std::int64_t b = i / channels, channel = i % channels, head = channel / dims.head_dim;
  const auto row = [&](std::int64_t token) { return ((b * dims.seq_len + token) * channels + channel) * N; };

  for (std::int64_t token = 0; token < dims.seq_len; ++token) {
    const std::int64_t at = b * dims.seq_len + token;
    const float decay = naive.decay(b, token, head);
    const float input = step_of(dims, t, at, head).delta * naive.x(at, channel);
    const T* const B = t.B + at * dims.B_stride + naive.vector(head);
    for (std::int64_t n = 0; n < N; ++n) {
      const float before = token > 0 ? states.h[row(token - 1) + n] : naive.initial(i * N + n);
      states.h[row(token) + n] = kept(decay, before) + input * to_float(B[n]);
    }
  }
  float decay = 1.0f;  // of the token after
  for (std::int64_t token = dims.seq_len - 1; token >= 0; --token) {
    const std::int64_t at = b * dims.seq_len + token;
    const bool last = token == dims.seq_len - 1;
    const float d_y = naive.d_y(at, channel);
    const T* const C = t.C + at * dims.C_stride + naive.vector(head);
    for (std::int64_t n = 0; n < N; ++n) {
      const float after = !last                        ? states.q[row(token + 1) + n]
                          : t.d_final_state != nullptr ? t.d_final_state[i * N + n]
                                                       : 0.0f;
      states.q[row(token) + n] = kept(decay, after) + d_y * to_float(C[n]);
    }
    decay = naive.decay(b, token, head);
  }
  if (t.d_initial_state == nullptr) return;
  for (std::int64_t n = 0; n < N; ++n) {
    const float after = dims.seq_len > 0             ? states.q[row(0) + n]
                        : t.d_final_state != nullptr ? t.d_final_state[i * N + n]
                                                     : 0.0f;
    const float value = rounded<T>(kept(decay, after));
    if (t.initial_state.is_bfloat16) {
      static_cast<__nv_bfloat16*>(t.d_initial_state)[i * N + n] = from_float<__nv_bfloat16>(value);
    } else {
      static_cast<float*>(t.d_initial_state)[i * N + n] = value;
    }
  }
}

// d_x, d_z, d_dt of a token of a head, and its terms of the sums over tokens.
template <class T>
SIMT_DEV void token_of_head(const Naive<T>& naive, const States& states, float* partials, std::int64_t at,
                            std::int64_t head) {
  const SsdScanDims& dims = naive.dims;
  const SsdScanBackward<T>& t = naive.t;
  const std::int64_t N = dims.state_size, P = dims.head_dim, channels = naive.channels();
  const std::int64_t b = at / dims.seq_len, token = at % dims.seq_len;
  const T* const B = t.B + at * dims.B_stride + naive.vector(head);
  const Step step = step_of(dims, t, at, head);
  float* const terms = partials + (at * dims.heads + head) * (2 + P);
  double along_input = 0.0, along_state = 0.0;
  for (std::int64_t p = 0; p < P; ++p) {
    const std::int64_t channel = head * P + p;
    const float* const q = states.q + (at * channels + channel) * N;
    double q_B = 0.0;
    for (std::int64_t n = 0; n < N; ++n) {
      const float before = token > 0 ? states.h[((at - 1) * channels + channel) * N + n]
                                     : naive.initial((b * channels + channel) * N + n);
      q_B += static_cast<double>(q[n]) * to_float(B[n]);
      along_state += static_cast<double>(q[n]) * before;
    }
    const float x = naive.x(at, channel), incoming = to_float(t.d_y[at * channels + channel]);
    const float skip = t.D.data != nullptr ? scalar_at(t.D, t.D_per_channel ? channel : head) : 0.0f;
    along_input += q_B * x;
    t.d_x[at * t.strides.x + channel] =
        from_float<T>(static_cast<float>(step.delta * q_B + static_cast<double>(skip) * naive.d_y(at, channel)));
    terms[2 + p] = incoming * naive.gate(at, channel) * x;
    if (t.z != nullptr) {
      const float z = to_float(t.z[at * dims.z_stride + channel]);
      const float u = to_float(t.ungated_y[at * channels + channel]);
      t.d_z[at * t.strides.z + channel] = from_float<T>(incoming * u * silu_derivative(z, Sigmoid(z)));
    }
  }
  const float decay = naive.decay(b, token, head);
  const double e = decay == 0.0f ? 0.0 : decay * along_state;
  const auto d_dt = static_cast<float>((along_input + t.A[head] * e) * step.slope);
  store_d_dt(t, at, head, d_dt);
  terms[0] = static_cast<float>(step.delta * e);
  terms[1] = d_dt;
}

// d_B and d_C of a token of a group, one column.
template <class T>
SIMT_DEV void column_of_group(const Naive<T>& naive, const States& states, std::int64_t at, std::int64_t group,
                              std::int64_t n) {
  const SsdScanDims& dims = naive.dims;
  const SsdScanBackward<T>& t = naive.t;
  const std::int64_t heads = dims.heads / dims.groups;
  double d_B = 0.0, d_C = 0.0;
  for (std::int64_t head = group * heads; head < (group + 1) * heads; ++head) {
    const double delta = step_of(dims, t, at, head).delta;
    for (std::int64_t channel = head * dims.head_dim; channel < (head + 1) * dims.head_dim; ++channel) {
      const std::int64_t i = (at * naive.channels() + channel) * dims.state_size + n;
      d_B += delta * naive.x(at, channel) * states.q[i];
      d_C += static_cast<double>(naive.d_y(at, channel)) * states.h[i];
    }
  }
  const std::int64_t column = group * dims.state_size + n;
  t.d_B[at * t.strides.B + column] = from_float<T>(static_cast<float>(d_B));
  t.d_C[at * t.strides.C + column] = from_float<T>(static_cast<float>(d_C));
}

template <class T>
__global__ void __launch_bounds__(kNaiveThreads)
    ssd_scan_backward_tokens_kernel(SsdScanDims dims, SsdScanBackward<T> t, States states, float* partials) {
  const Naive<T> naive{dims, t};
  const std::int64_t columns = dims.groups * dims.state_size, roles = dims.heads + columns;
  const std::int64_t threads = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
       i < dims.batch * dims.seq_len * roles; i += threads) {
    const std::int64_t at = i / roles, role = i % roles, column = role - dims.heads;
    if (role < dims.heads) {
      token_of_head(naive, states, partials, at, role);
    } else {
      column_of_group(naive, states, at, column / dims.state_size, column % dims.state_size);
    }
  }
}

// A block sums one head's columns, kSumColumns at a time: kSumRows threads share the rows of each.
template <class T>
__global__ void __launch_bounds__(kSumRows* kSumColumns)
    ssd_scan_backward_sums_kernel(SsdScanDims dims, SsdScanBackward<T> t, const float* partials, std::int64_t rows) {
  SIMT_SHARED(double[kSumRows][kSumColumns], sums);
  const std::int64_t head = blockIdx.x, stride = 2 + dims.head_dim;
  const std::int64_t width = t.d_D != nullptr ? stride : 2;  // the rest is not there
  const int row = static_cast<int>(threadIdx.x) / kSumColumns, lane = static_cast<int>(threadIdx.x) % kSumColumns;
  double all_channels = 0.0;  // of those that this thread of the first row has
  for (std::int64_t first = 0; first < width; first += kSumColumns) {
    const std::int64_t column = first + lane;
    double sum = 0.0;
    if (column < width) {
      for (std::int64_t r = row; r < rows; r += kSumRows) sum += partials[(r * dims.heads + head) * stride + column];
    }
    sums[row][lane] = sum;
    __syncthreads();
    if (row == 0 && column < width) {
      double total = 0.0;
      for (int r = 0; r < kSumRows; ++r) total += sums[r][lane];
      const auto value = static_cast<float>(total);
      if (column == 0) {
        t.d_A[head] = value;
      } else if (column == 1) {
        if (t.d_dt_bias != nullptr) t.d_dt_bias[head] = value;
      } else {
        if (t.D_per_channel) t.d_D[head * dims.head_dim + column - 2] = value;
        all_channels += total;
      }
    }
    __syncthreads();
  }
  if (t.d_D == nullptr || t.D_per_channel) return;
  if (row == 0) sums[0][lane] = all_channels;
  __syncthreads();
  if (threadIdx.x != 0) return;
  double total = 0.0;
  for (int i = 0; i < kSumColumns; ++i) total += sums[0][i];
  t.d_D[head] = static_cast<float>(total);
}

}  // namespace

template <class T>
void launch_sums(const SsdScanDims& dims, const SsdScanBackward<T>& tensors, const float* partials, std::int64_t rows,
                 cudaStream_t stream) {
  simt::launch(
      ssd_scan_backward_sums_kernel<T>,
      {.grid = dim3(static_cast<unsigned>(dims.heads)), .block = dim3(kSumRows * kSumColumns), .stream = stream}, dims,
      tensors, partials, rows);
}

template <class T>
void launch_backward_naive(const BackwardPlan& plan, const SsdScanDims& dims, const SsdScanBackward<T>& tensors,
                           cudaStream_t stream) {
  auto* const h = static_cast<float*>(tensors.workspace);
  float* const partials = h + 2 * plan.states;
  const States states{.h = h, .q = h + plan.states};
  const auto launch_for = [&](std::int64_t threads) {
    constexpr std::int64_t kMaxBlocks = 1 << 20;
    const std::int64_t blocks = std::min((threads + kNaiveThreads - 1) / kNaiveThreads, kMaxBlocks);
    return simt::Launch{.grid = dim3(static_cast<unsigned>(blocks)), .block = dim3(kNaiveThreads), .stream = stream};
  };
  const std::int64_t channels = dims.batch * dims.heads * dims.head_dim;
  if (channels > 0) simt::launch(ssd_scan_backward_states_kernel<T>, launch_for(channels), dims, tensors, states);
  const std::int64_t tokens = dims.batch * dims.seq_len;
  if (tokens > 0) {
    simt::launch(ssd_scan_backward_tokens_kernel<T>, launch_for(tokens * (dims.heads + dims.groups * dims.state_size)),
                 dims, tensors, states, partials);
  }
  launch_sums(dims, tensors, partials, plan.rows, stream);
}

template void launch_sums(const SsdScanDims&, const SsdScanBackward<float>&, const float*, std::int64_t, cudaStream_t);
template void launch_sums(const SsdScanDims&, const SsdScanBackward<__nv_bfloat16>&, const float*, std::int64_t,
                          cudaStream_t);

}  // namespace ssd_scan

template <class T>
void ssd_scan_backward(const SsdScanDims& dims, const SsdScanBackward<T>& tensors, cudaStream_t stream, Method method) {
  const auto& t = tensors;
  const char* const name = "ssd_scan_backward";
  ssd_scan::check_dims(name, dims);
  require(t.dt_min <= t.dt_max, name, ": dt_min = ", t.dt_min, ", dt_max = ", t.dt_max, "; want dt_min <= dt_max");
  const auto stride = [&](const char* gradient, std::int64_t found, std::int64_t least) {
    require(found >= least, name, ": the stride of ", gradient, " = ", found, "; want >= ", least);
  };
  const std::int64_t channels = dims.heads * dims.head_dim, vectors = dims.groups * dims.state_size;
  stride("d_x", t.strides.x, channels);
  stride("d_dt", t.strides.dt, dims.heads);
  stride("d_B", t.strides.B, vectors);
  stride("d_C", t.strides.C, vectors);
  if (t.z != nullptr) stride("d_z", t.strides.z, channels);
  require(t.d_A != nullptr, name, ": d_A is null; want a pointer");
  require(!t.D.data || t.d_D, name, ": d_D is null; want a pointer, as there is a D");
  require(!t.dt_bias.data || t.d_dt_bias, name, ": d_dt_bias is null; want a pointer, as there is a dt_bias");
  require(t.initial_state.data || !t.d_initial_state, name, ": d_initial_state without an initial_state");
  if (dims.batch > 0 && dims.seq_len > 0) {
    require(t.x && t.dt && t.A && t.B && t.C && t.d_y, name, ": x, dt, A, B, C or d_y is null; want a pointer");
    require(t.d_x && t.d_dt && t.d_B && t.d_C, name, ": d_x, d_dt, d_B or d_C is null; want a pointer");
    require(!t.z || (t.ungated_y && t.d_z), name, ": ungated_y or d_z is null; want a pointer, as there is a gate");
    require(t.workspace && reinterpret_cast<std::uintptr_t>(t.workspace) % 16 == 0, name,
            ": workspace is null or not 16-byte aligned");
  }
  const ssd_scan::BackwardPlan plan = ssd_scan::plan_backward(dims, t.strides, sizeof(T), method);
  if (plan.naive) return ssd_scan::launch_backward_naive(plan, dims, t, stream);
  const auto aligned = [&](const char* tensor, const void* p) {
    require(reinterpret_cast<std::uintptr_t>(p) % 16 == 0, name, ": ", tensor,
            " is not 16-byte aligned; align it, or choose Method::naive with its workspace");
  };
  aligned("x", t.x);
  aligned("B", t.B);
  aligned("C", t.C);
  aligned("z", t.z);
  aligned("ungated_y", t.ungated_y);
  aligned("d_y", t.d_y);
  aligned("d_final_state", t.d_final_state);
  aligned("initial_state", t.initial_state.data);
  aligned("d_x", t.d_x);
  aligned("d_B", t.d_B);
  aligned("d_C", t.d_C);
  aligned("d_z", t.d_z);
  aligned("d_initial_state", t.d_initial_state);
  require(plan.blocks <= INT32_MAX && plan.tiles <= INT32_MAX / 2, name, ": ", plan.blocks,
          " chunks in all groups; want at most 2^31 - 1");
  ssd_scan::launch_backward_chunked(plan, dims, t, stream);
}

template void ssd_scan_backward(const SsdScanDims&, const SsdScanBackward<float>&, cudaStream_t, Method);
template void ssd_scan_backward(const SsdScanDims&, const SsdScanBackward<__nv_bfloat16>&, cudaStream_t, Method);

}  // namespace assay::gpu
