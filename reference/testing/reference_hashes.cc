// Prints a hash of the outputs and gradients of every layer. Built by two compilers and run with any number of threads, it
// must print the same lines: results are a function of the inputs alone.
//
//   reference_hashes [threads [alignment]]      alignment 0 .. 7: every array begins 16 * alignment bytes off a multiple of 128
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <vector>

#include "reference/causal_conv1d.h"
#include "reference/elementary.h"
#include "reference/embedding.h"
#include "reference/gated_rms_norm.h"
#include "reference/gemm.h"
#include "reference/linear.h"
#include "reference/mamba2_mixer.h"
#include "reference/mtp.h"
#include "reference/parallel.h"
#include "reference/rms_norm.h"
#include "reference/ssd_scan.h"
#include "reference/ssd_scan_recurrence.h"
#include "reference/ssm_state_update.h"
#include "reference/sums.h"
#include "reference/testing/hash.h"
#include "reference/testing/scan_problem.h"
#include "reference/testing/small_model.h"

namespace {
std::size_t alignment = 0;
}

void* operator new(std::size_t size) {
  auto* raw = static_cast<char*>(std::malloc(size + 256 + sizeof(void*)));
  if (!raw) throw std::bad_alloc();
  char* p = raw + sizeof(void*);
  p += 128 - reinterpret_cast<std::uintptr_t>(p) % 128 + 16 * alignment;
  reinterpret_cast<void**>(p)[-1] = raw;
  return p;
}
void operator delete(void* p) noexcept {
  if (p) std::free(reinterpret_cast<void**>(p)[-1]);
}
void operator delete(void* p, std::size_t) noexcept { operator delete(p); }

namespace assay::reference::testing {
namespace {

template <class T>
struct Policy {
  const char* name;
  Numerics<T> num;
};

template <class T, class... Results>
void print(const Policy<T>& policy, const char* layer, const Results&... results) {
  Hash hash;
  (hash.add(results), ...);
  std::printf("%-24s %-9s %016llx\n", layer, policy.name, static_cast<unsigned long long>(hash.value()));
}

template <class T>
Tensor<T> draw(const Policy<T>& policy, Random& random, Shape shape, double low = -1, double high = 1) {
  Tensor<T> t = random.tensor<T>(std::move(shape), low, high);
  policy.num.store(t.span());
  return t;
}

template <class T>
void functions(const Policy<T>& policy) {
  Random random(1);
  Tensor<T> x = random.tensor<T>({5000}, -30, 30), y = x, positive = random.tensor<T>({5000}, 0, 9);
  const auto one = [&](const char* name, auto f, const Tensor<T>& in) {
    f(std::span<const T>(in.span()), y.span());
    print(policy, name, y);
  };
  one("exp", [](auto in, auto out) { exp(in, out); }, x);
  one("log", [](auto in, auto out) { log(in, out); }, positive);
  one("log1p", [](auto in, auto out) { log1p(in, out); }, positive);
  one("silu", [](auto in, auto out) { silu(in, out); }, x);
  one("silu_derivative", [](auto in, auto out) { silu_derivative(in, out); }, x);
  one("softplus", [](auto in, auto out) { softplus(in, out); }, x);
  for (Index i = 0; i < x.size(); ++i) y[i] = expm1(x[i]) + rsqrt(positive[i] + 1);
  print(policy, "expm1, rsqrt", y);
  print(policy, "sums", Tensor<T>({3}, std::vector<T>{sum(x.data(), 4999), sum_of_squares(x.data(), 4999), dot(x.data(), y.data(), 4999)}));
}

template <class T>
void products(const Policy<T>& policy) {
  Random random(2);
  const Index m = 201, n = 150, k = 333;
  const Tensor<T> a = draw(policy, random, {m, k}), b = draw(policy, random, {k, n}), a_t = draw(policy, random, {k, m}),
                  b_t = draw(policy, random, {n, k});
  Tensor<T> nn({m, n}), nt = nn, tn = nn;
  gemm(view(a, m), view(b, k), view(nn, m));
  gemm_nt(view(a, m), view(b_t, n), view(nt, m));
  gemm_tn(view(a_t, k), view(b, k), view(tn, m));
  print(policy, "gemm", nn, nt, tn);
  const Tensor<T> bias = draw(policy, random, {n}), d_y = draw(policy, random, {m, n});
  std::vector<std::int64_t> ids;
  for (Index t = 0; t < m; ++t) ids.push_back(random.integer(0, 40));
  print(policy, "embedding", embedding_forward<T>(b_t, ids), embedding_backward<T>(policy.num, ids, d_y, 41));
  const auto d = linear_backward(policy.num, a, b_t, d_y, true);
  print(policy, "linear", linear_forward(policy.num, a, b_t, &bias), d.x, d.weight, d.bias);
}

template <class T>
void norms(const Policy<T>& policy) {
  Random random(3);
  const Index rows = 57, width = 300;
  const Tensor<T> x = draw(policy, random, {rows, width}), other = draw(policy, random, {rows, width}, -3, 3),
                  weight = draw(policy, random, {width}), d_y = draw(policy, random, {rows, width});
  const auto norm = rms_norm_forward(policy.num, x, weight, &other, T(1e-5));
  const auto d_norm = rms_norm_backward(policy.num, norm.residual, weight, norm.rstd, d_y, &other);
  print(policy, "rms_norm", norm.hidden_states, norm.residual, norm.rstd, d_norm.d_hidden_states, d_norm.d_residual, d_norm.d_weight);
  const auto gated = gated_rms_norm_forward(policy.num, x, &other, weight, 100, T(1e-5));
  const auto d_gated = gated_rms_norm_backward(policy.num, x, &other, weight, gated.rstd, d_y, 100);
  print(policy, "gated_rms_norm", gated.hidden_states, gated.rstd, d_gated.d_hidden_states, d_gated.d_gate, d_gated.d_weight);
}

// Long enough for several blocks of queries, several tasks of a popular expert and threads that have to share.
template <class T>
void attention(const Policy<T>& policy) {
  Random random(11);
  const Tensor<T> q = draw(policy, random, {2, 300, 6, 40}), k = draw(policy, random, {2, 300, 2, 40}),
                  v = draw(policy, random, {2, 300, 2, 40}), d_o = draw(policy, random, {2, 300, 6, 40});
  const auto mask = AttentionMask<T>::causal();
  const AttentionOutput<T> out = attention_forward(policy.num, q, k, v, mask);
  const AttentionGradients<T> d = attention_backward(policy.num, q, k, v, mask, out, d_o);
  print(policy, "attention", out.o, out.log_sum_exp, d.q, d.k, d.v);
}

// Every layer, forward and backward, in a model with every feature on; then a prefill and a step with its cache.
template <class T>
void model(const Policy<T>& policy) {
  Random random(12);
  NemotronV3Config config = small_config("M*-EM");
  config.num_nextn_predict_layers = 2;
  config.time_step_limit[0] = 0.1;
  const Parameters<double> drawn = small_parameters(config, random);
  Parameters<T> p;
  for (const auto& [name, parameter] : drawn.entries()) {
    Tensor<T> value = cast<T>(parameter.value);
    if (!is_kept_in_float32(name)) policy.num.store(value.span());
    p.set(name, std::move(value), parameter.flags);
  }
  ModelInput<T> input;
  input.input_ids = Tensor<Index>({2, 150});
  for (Index& id : input.input_ids.span()) id = random.integer(0, config.vocab_size - 1);
  Parameters<T> d_p;
  const TrainingStep<T> step = training_step<T>(policy.num, config, {}, p, input, input.input_ids, 300, d_p);
  print(policy, "training step", step.logits, step.mtp_hidden_states[0], step.mtp_hidden_states[1]);
  for (const auto& [name, gradient] : d_p.entries()) print(policy, name.substr(name.size() > 24 ? name.size() - 24 : 0).c_str(), gradient.value);
  HybridCache<T> cache = make_cache<T>(config, 2);
  const Tensor<T> prefill = backbone_step<T>(policy.num, config, {}, p, input, cache);
  input.input_ids = Tensor<Index>({2, 1}, 7);
  print(policy, "prefill, decode", prefill, backbone_step<T>(policy.num, config, {}, p, input, cache), cache.ssm_states[0]);
}

template <class T>
void convolution(const Policy<T>& policy) {
  Random random(4);
  const Index batch = 2, seq_len = 61, channels = 301, K = 4;
  const Tensor<T> x = draw(policy, random, {batch, seq_len, channels}), weight = draw(policy, random, {channels, K}),
                  bias = draw(policy, random, {channels}), d_y = draw(policy, random, {batch, seq_len, channels}),
                  state = draw(policy, random, {batch, channels, K - 1});
  const CausalConv1dInputs<T> in{.x = x, .weight = weight, .bias = &bias, .initial_state = &state};
  const auto out = causal_conv1d_forward(policy.num, in);
  const auto d = causal_conv1d_backward(policy.num, in, d_y, &state);
  print(policy, "causal_conv1d", out.y, out.final_state, d.d_x, d.d_weight, d.d_bias, d.d_initial_state);
}

template <class T>
void scans(const Policy<T>& policy) {
  Random random(5);
  ScanProblem<T> p(random, 2, 75, 6, 16, 2, 20);
  for (Tensor<T>* t : {&p.x, &p.dt, &p.B, &p.C, &p.z, &p.d_y}) policy.num.store(t->span());
  for (const Index chunk_size : {32, 70}) {  // whole, and in two pieces
    p.chunk_size = chunk_size;
    const auto in = p.inputs();
    const auto out = ssd_scan_forward(policy.num, in);
    const auto d = ssd_scan_backward(policy.num, in, out, p.d_y, &p.d_final_state);
    print(policy, "ssd_scan.forward", out.y, out.final_state, out.entering_states, out.ungated_y);
    print(policy, "ssd_scan.backward", d.d_x, d.d_dt, d.d_B, d.d_C, d.d_z, d.d_A, d.d_D, d.d_dt_bias, d.d_initial_state);
  }
  const auto by_token = ssd_scan_recurrence_forward(policy.num, p.inputs());
  print(policy, "ssd_scan recurrence", by_token.y, by_token.final_state);

  const Tensor<T> x = draw(policy, random, {2, 6, 16}), dt = draw(policy, random, {2, 6}), B = draw(policy, random, {2, 2, 20}),
                  C = draw(policy, random, {2, 2, 20});
  Tensor<T> state = p.initial_state;
  const Tensor<T> y = ssm_state_update(policy.num, {.x = x, .dt = dt, .A = p.A, .B = B, .C = C, .D = &p.D}, state, policy.num.storage);
  print(policy, "ssm_state_update", y, state);
}

template <class T>
void mixer(const Policy<T>& policy) {
  Random random(6);
  NemotronV3Config c;
  c.hidden_size = 60, c.n_groups = 2, c.mamba_num_heads = 6, c.mamba_head_dim = 8, c.ssm_state_size = 16, c.chunk_size = 32;
  c.use_bias = true;
  Parameters<T> parameters, gradients;
  const auto set = [&](const char* name, Shape shape) { parameters.set(name, draw(policy, random, std::move(shape), -0.2, 0.2)); };
  set("in_proj.weight", {c.in_proj_rows(), c.hidden_size});
  set("in_proj.bias", {c.in_proj_rows()});
  set("conv1d.weight", {c.conv_dim(), 1, c.conv_kernel});
  set("conv1d.bias", {c.conv_dim()});
  set("_fp32_params.dt_bias", {c.mamba_num_heads});
  set("_fp32_params.A_log", {c.mamba_num_heads});
  set("_fp32_params.D", {c.mamba_num_heads});
  set("norm.weight", {c.mamba_intermediate_size()});
  set("out_proj.weight", {c.hidden_size, c.mamba_intermediate_size()});
  set("out_proj.bias", {c.hidden_size});
  const ParameterScope<T> p(parameters);
  const Tensor<T> u = draw(policy, random, {2, 70, c.hidden_size}), d_out = draw(policy, random, {2, 70, c.hidden_size}),
                  next = draw(policy, random, {2, 1, c.hidden_size});
  Mamba2MixerSaved<T> saved;
  const Tensor<T> out = mamba2_mixer_forward(policy.num, c, p, u, nullptr, nullptr, &saved);
  const Tensor<T> d_u = mamba2_mixer_backward(policy.num, c, p, u, nullptr, nullptr, saved, d_out, GradientScope<T>(gradients));
  Hash hash;
  for (const auto& [name, gradient] : gradients.entries()) hash.add(gradient.value);
  print(policy, "mamba2_mixer.train", out, d_u, Tensor<std::uint64_t>({1}, hash.value()));
  Tensor<T> conv_state({2, c.conv_dim(), c.conv_kernel}), ssm_state({2, c.mamba_num_heads, c.mamba_head_dim, c.ssm_state_size});
  const Tensor<T> prefill = mamba2_mixer_prefill(policy.num, c, p, u, nullptr, conv_state, ssm_state);
  const Tensor<T> step = mamba2_mixer_decode(policy.num, c, p, next, nullptr, conv_state, ssm_state);
  print(policy, "mamba2_mixer.decode", prefill, step, conv_state, ssm_state);
}

template <class T>
void all(const Policy<T>& policy) {
  functions(policy);
  products(policy);
  norms(policy);
  convolution(policy);
  scans(policy);
  mixer(policy);
  attention(policy);
  model(policy);
}

}  // namespace
}  // namespace assay::reference::testing

int main(int argc, char** argv) {
  using namespace assay::reference;
  alignment = argc > 2 ? std::strtoul(argv[2], nullptr, 10) % 8 : 0;
  set_threads(argc > 1 ? std::atoi(argv[1]) : 1);
  testing::all<double>({"double", {}});
  testing::all<float>({"float", {}});
  testing::all<float>({"bfloat16", {.storage = Storage::bfloat16}});
  return 0;
}
