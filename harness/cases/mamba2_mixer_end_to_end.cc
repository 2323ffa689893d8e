// Freedom. Each step has a standard deviation of what the contract leaves open, element by element. One draw of all of
// them is carried through the layer in double: each step's result, moved by a normal number times its freedom, is what
// the next step gets. How far the end moves is the end's freedom; over a tensor its root mean square is what gate 3
// asks for.
//
// Independent errors. Gate 3 compares the sizes of two errors, the candidate's and the matched reference's. Where terms
// cancel, a single number may decide both: one C . B of a token behind much larger ones, rounded by one of the two
// where its chunk ends and not by the other. Draws e_k of all errors, roundings included, are errors with the
// covariance S of those of a correct layer: E |e_k|^2 = tr S, E (e_k . e_l)^2 = tr S^2, and (tr S)^2 / tr S^2 is the
// number of equally large independent errors whose sum of squares scatters as theirs.
#include "harness/cases/mamba2_mixer_end_to_end.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>

#include "harness/cases/mamba2_mixer_steps.h"
#include "harness/cases/norm_case.h"
#include "harness/core/random.h"
#include "reference/causal_conv1d.h"
#include "reference/gated_rms_norm.h"
#include "reference/linear.h"
#include "reference/mamba2_mixer.h"
#include "reference/ssm_state_update.h"

namespace assay::harness {
namespace {

using reference::Numerics;
using reference::Tensor;

// A call's tensors as the reference takes them.
template <class T>
struct Layer {
  const Call& call;
  reference::NemotronV3Config config;
  reference::Parameters<T> parameters;
  Tensor<T> u, conv_state, ssm_state, d_out;
  std::optional<reference::PaddingMask> mask;
  std::optional<reference::SeqIdx> seq_idx;

  explicit Layer(const Call& layer) : call(layer), config(mixer_config(layer)) {
    constexpr std::string_view kParam = "param.";
    for (const HostTensor& t : layer.tensors)
      if (t.name.starts_with(kParam)) parameters.set(t.name.substr(kParam.size()), to_reference<T>(t));
    u = to_reference<T>(layer.tensor("input.hidden_states"));
    if (const HostTensor* m = layer.find("input.attention_mask")) {
      mask.emplace(m->shape);
      for (std::int64_t i = 0; i < m->size(); ++i) (*mask)[i] = m->at(i) != 0;
    }
    if (const HostTensor* s = layer.find("input.seq_idx")) {
      seq_idx.emplace(s->shape);
      for (std::int64_t i = 0; i < s->size(); ++i) (*seq_idx)[i] = static_cast<std::int32_t>(s->at(i));
    }
    conv_state = before("conv_state"), ssm_state = before("ssm_state");
    if (backward()) d_out = to_reference<T>(layer.tensor("grad.output.hidden_states"));
  }

  bool backward() const { return call.op == "mamba2_mixer.train_backward"; }
  bool decode() const { return call.op == "mamba2_mixer.decode"; }
  bool continued() const { return call.op == "mamba2_mixer.prefill" && call.integer("continued") != 0; }
  const Tensor<T>* find(const char* name) const { return parameters.find(name); }
  bool state_in_float32() const { return call.find("ssm_state") && call.tensor("ssm_state").dtype == DType::float32; }

  LayerResults<T> evaluate(const Numerics<T>& num) const {
    if (backward()) return gradients(num);
    const reference::ParameterScope<T> p(parameters);
    const auto* m = mask ? &*mask : nullptr;
    Tensor<T> conv = conv_state, ssm = ssm_state, out;
    if (call.op == "mamba2_mixer.train_forward") {
      out = reference::mamba2_mixer_forward(num, config, p, u, m, seq_idx ? &*seq_idx : nullptr);
      return {{"output.hidden_states", std::move(out)}};
    }
    const reference::Mamba2MixerOptions options{.ssm_state_in_float32 = state_in_float32()};
    out = decode()
              ? reference::mamba2_mixer_decode(num, config, p, u, m, conv, ssm, options)
              : reference::mamba2_mixer_prefill(
                    num, config, p, u, m, conv, ssm,
                    continued() ? reference::Mamba2Prefill::continued : reference::Mamba2Prefill::from_zeros, options);
    return {{"output.hidden_states", std::move(out)}, {"conv_state", std::move(conv)}, {"ssm_state", std::move(ssm)}};
  }

 private:
  LayerResults<T> gradients(const Numerics<T>& num) const {
    const reference::ParameterScope<T> p(parameters);
    const auto* m = mask ? &*mask : nullptr;
    const auto* s = seq_idx ? &*seq_idx : nullptr;
    reference::Mamba2MixerSaved<T> saved;
    reference::mamba2_mixer_forward(num, config, p, u, m, s, &saved);
    reference::Parameters<T> d_p;
    LayerResults<T> results;
    results.emplace_back("grad.input.hidden_states",
                         reference::mamba2_mixer_backward(num, config, p, u, m, s, saved, d_out, {d_p}));
    for (auto& [name, gradient] : d_p.entries()) results.emplace_back("grad." + name, std::move(gradient.value));
    return results;
  }
  Tensor<T> before(const char* name) const {
    const HostTensor* t = call.find(name);
    if (!t) return {};
    HostTensor earlier = *t;
    earlier.bytes = t->before;
    return to_reference<T>(earlier);
  }
};

// Channels first .. first + width of every token, in this shape.
Tensor<double> channels(const Tensor<double>& from, std::int64_t first, std::int64_t width, reference::Shape shape) {
  Tensor<double> result(std::move(shape));
  const std::int64_t row = from.dim(-1);
  for (std::int64_t i = 0; i < result.size(); ++i) result[i] = from[i / width * row + first + i % width];
  return result;
}

// Back from parts that lie one after the other in every token.
Tensor<double> joined(const std::vector<const Tensor<double>*>& parts, const std::vector<std::int64_t>& widths,
                      reference::Shape shape) {
  Tensor<double> result(std::move(shape));
  const std::int64_t row = result.dim(-1);
  std::int64_t first = 0;
  for (std::size_t k = 0; k < parts.size(); first += widths[k++])
    for (std::int64_t i = 0; i < parts[k]->size(); ++i)
      result[i / widths[k] * row + first + i % widths[k]] = (*parts[k])[i];
  return result;
}

// The layer in double, every step's result moved by a draw.
class Disturbed {
 public:
  Disturbed(const Layer<double>& layer, const std::vector<Expectation>& steps, int draw)
      : layer_(layer), steps_(steps), draw_(draw), n_(layer.call) {}

  LayerResults<double> run() {
    forward();
    if (layer_.backward()) return gradients();
    Tensor<double> out =
        reference::linear_forward<double>(num_, normed_, parameter("out_proj.weight"), layer_.find("out_proj.bias"));
    moved("output.hidden_states", out);
    return {{"output.hidden_states", std::move(out)}, {"conv_state", columns_of(xBC_)}, {"ssm_state", ssm_state_}};
  }

 private:
  const Tensor<double>& parameter(const char* name) const { return *layer_.find(name); }

  void forward() {
    const auto& l = layer_;
    Tensor<double> conv_state = l.conv_state;
    u_ = l.u, A_ = parameter("_fp32_params.A_log"), ssm_state_ = l.ssm_state;
    mask(u_);
    for (double& a : A_.span()) a = -num_.exp(a);
    moved("tap.A", A_);
    Tensor<double> projected =
        reference::linear_forward<double>(num_, u_, parameter("in_proj.weight"), l.find("in_proj.bias"));
    moved("tap.projected", projected);

    xBC_ = channels(projected, n_.inner, n_.channels, tokens({n_.channels}));
    z_ = channels(projected, 0, n_.inner, rows());
    dt_ = channels(projected, n_.inner + n_.channels, n_.heads, tokens({n_.heads}));
    earlier_ = last_columns(conv_state);
    Tensor<double> convolved = l.decode()
                                   ? reference::causal_conv1d_update<double>(
                                         num_, xBC_, conv_state, parameter("conv1d.weight"), l.find("conv1d.bias"))
                                   : reference::causal_conv1d_forward<double>(num_, conv_inputs()).y;
    moved("tap.convolved", convolved);

    x_ = channels(convolved, 0, n_.inner, tokens({n_.heads, n_.head_dim()}));
    B_ = channels(convolved, n_.inner, n_.keys(), tokens({n_.groups, n_.state_size}));
    C_ = channels(convolved, n_.inner + n_.keys(), n_.keys(), tokens({n_.groups, n_.state_size}));
    if (l.decode()) {
      scan_.y = reference::ssm_state_update<double>(num_,
                                                    {.x = x_,
                                                     .dt = dt_,
                                                     .A = A_,
                                                     .B = B_,
                                                     .C = C_,
                                                     .D = l.find("_fp32_params.D"),
                                                     .dt_bias = l.find("_fp32_params.dt_bias")},
                                                    ssm_state_, reference::Storage::native);
    } else {
      initial_ = ssm_state_;
      scan_ = reference::ssd_scan_forward<double>(num_, scan_inputs());
      ssm_state_ = scan_.final_state;
    }
    moved("tap.scanned", scan_.y, n_.head_dim());
    moved("ssm_state", ssm_state_, n_.head_dim() * n_.state_size);

    auto norm = reference::gated_rms_norm_forward<double>(num_, scan_.y.reshaped(rows()), &z_, parameter("norm.weight"),
                                                          n_.inner / n_.groups, l.config.layer_norm_epsilon);
    rstd_ = std::move(norm.rstd), normed_ = std::move(norm.hidden_states);
    moved("tap.normed", normed_);
  }

  LayerResults<double> gradients() {
    auto d_out_proj = reference::linear_backward<double>(num_, normed_, parameter("out_proj.weight"),
                                                         layer_.d_out.reshaped({n_.batch * n_.seq_len, n_.hidden_size}),
                                                         layer_.find("out_proj.bias") != nullptr);
    moved("tap.d_normed", d_out_proj.x);
    auto d_norm = reference::gated_rms_norm_backward<double>(
        num_, scan_.y.reshaped(rows()), &z_, parameter("norm.weight"), rstd_, d_out_proj.x, n_.inner / n_.groups);
    moved("tap.d_scanned", d_norm.d_hidden_states);
    auto d_scan =
        reference::ssd_scan_backward<double>(num_, scan_inputs(), scan_, d_norm.d_hidden_states.reshaped(x_.shape()));
    moved("tap.d_A", d_scan.d_A);
    Tensor<double> d_convolved =
        joined({&d_scan.d_x, &d_scan.d_B, &d_scan.d_C}, {n_.inner, n_.keys(), n_.keys()}, tokens({n_.channels}));
    moved("tap.d_convolved", d_convolved, n_.head_dim());
    auto d_conv = reference::causal_conv1d_backward<double>(num_, conv_inputs(), d_convolved);
    Tensor<double> d_projected = joined({&d_norm.d_gate, &d_conv.d_x, &d_scan.d_dt}, {n_.inner, n_.channels, n_.heads},
                                        tokens({n_.projected()}));
    moved("tap.d_projected", d_projected);
    auto d_in_proj = reference::linear_backward<double>(num_, u_, parameter("in_proj.weight"), d_projected,
                                                        layer_.find("in_proj.bias") != nullptr);
    moved("tap.d_masked", d_in_proj.x);
    mask(d_in_proj.x);
    for (std::int64_t h = 0; h < n_.heads; ++h) d_scan.d_A[h] *= A_[h];

    LayerResults<double> results = {{"grad.input.hidden_states", std::move(d_in_proj.x)},
                                    {"grad.in_proj.weight", std::move(d_in_proj.weight)},
                                    {"grad.in_proj.bias", std::move(d_in_proj.bias)},
                                    {"grad.conv1d.weight", std::move(d_conv.d_weight)},
                                    {"grad.conv1d.bias", std::move(d_conv.d_bias)},
                                    {"grad._fp32_params.dt_bias", std::move(d_scan.d_dt_bias)},
                                    {"grad._fp32_params.A_log", std::move(d_scan.d_A)},
                                    {"grad._fp32_params.D", std::move(d_scan.d_D)},
                                    {"grad.norm.weight", std::move(d_norm.d_weight)},
                                    {"grad.out_proj.weight", std::move(d_out_proj.weight)},
                                    {"grad.out_proj.bias", std::move(d_out_proj.bias)}};
    for (auto& [name, gradient] : results) moved(name, gradient);
    return results;
  }

  reference::CausalConv1dInputs<double> conv_inputs() const {
    return {.x = xBC_,
            .weight = parameter("conv1d.weight"),
            .bias = layer_.find("conv1d.bias"),
            .initial_state = layer_.continued() ? &earlier_ : nullptr,
            .seq_idx = documents()};
  }
  reference::SsdScanInputs<double> scan_inputs() const {
    return {.x = x_,
            .dt = dt_,
            .A = A_,
            .B = B_,
            .C = C_,
            .D = layer_.find("_fp32_params.D"),
            .dt_bias = layer_.find("_fp32_params.dt_bias"),
            .initial_state = layer_.continued() ? &initial_ : nullptr,
            .seq_idx = documents(),
            .chunk_size = layer_.config.chunk_size,
            .dt_min = layer_.config.time_step_limit[0],
            .dt_max = layer_.config.time_step_limit[1]};
  }
  std::span<const std::int32_t> documents() const {
    return layer_.seq_idx ? std::span<const std::int32_t>(layer_.seq_idx->span()) : std::span<const std::int32_t>{};
  }
  void mask(Tensor<double>& tokens) const {
    if (!layer_.mask) return;
    for (std::int64_t i = 0; i < tokens.size(); ++i) tokens[i] *= (*layer_.mask)[i / n_.hidden_size];
  }

  reference::Shape rows() const { return {n_.batch * n_.seq_len, n_.inner}; }
  reference::Shape tokens(std::initializer_list<std::int64_t> inner) const {
    reference::Shape shape = layer_.decode() ? reference::Shape{n_.batch} : reference::Shape{n_.batch, n_.seq_len};
    shape.insert(shape.end(), inner);
    return shape;
  }
  Tensor<double> last_columns(const Tensor<double>& state) const {
    if (!layer_.continued()) return {};
    Tensor<double> result({n_.batch, n_.channels, n_.taps - 1});
    for (std::int64_t i = 0; i < result.size(); ++i)
      result[i] = state[i / (n_.taps - 1) * n_.taps + 1 + i % (n_.taps - 1)];
    return result;
  }
  // What the conv state takes of xBC; elsewhere it is a copy of what it was, and free of error.
  Tensor<double> columns_of(const Tensor<double>& xBC) const {
    Tensor<double> result({n_.batch, n_.channels, n_.taps});
    for (std::int64_t i = 0; i < result.size(); ++i) {
      const std::int64_t b = i / n_.taps / n_.channels, c = i / n_.taps % n_.channels;
      const std::int64_t token = n_.seq_len - n_.taps + i % n_.taps;
      result[i] = token >= 0 ? xBC[(b * n_.seq_len + token) * n_.channels + c] : NAN;
    }
    return result;
  }

  // `shared`: exponents and rounded keys move all channels of a head alike.
  void moved(const std::string& tensor, Tensor<double>& value, std::int64_t shared = 1) const {
    const auto step = std::find_if(steps_.begin(), steps_.end(), [&](const auto& e) { return e.tensor == tensor; });
    move_by_draw(value, draw_, tensor, layer_.call.find(tensor), step == steps_.end() ? nullptr : &*step, shared);
  }

  const Layer<double>& layer_;
  const std::vector<Expectation>& steps_;
  int draw_;
  MixerSizes n_;
  Numerics<double> num_;
  // What the backward sees of the forward.
  Tensor<double> u_, A_, z_, xBC_, dt_, earlier_, x_, B_, C_, ssm_state_, initial_, rstd_, normed_;
  reference::SsdScanForward<double> scan_;
};

const Tensor<double>& named(const LayerResults<double>& results, const std::string& name) {
  return std::find_if(results.begin(), results.end(), [&](const auto& r) { return r.first == name; })->second;
}

// By how much a draw moved an element, NaN being free of error.
double moved_by(const Tensor<double>& value, const Expectation& e, std::int64_t i) {
  return std::isnan(value[i]) ? 0 : value[i] - e.oracle[static_cast<std::size_t>(i)];
}

// (tr S)^2 / tr S^2 and, by which small tensors are pooled, the root mean square, of draws of all errors.
void set_independent(Expectation& e, const std::vector<LayerResults<double>>& draws) {
  std::vector<const Tensor<double>*> errors;
  for (const auto& results : draws) errors.push_back(&named(results, e.tensor));
  double trace = 0, trace2 = 0, pairs = 0;
  for (std::size_t k = 0; k < errors.size(); ++k)
    for (std::size_t l = 0; l <= k; ++l) {
      double product = 0;
      for (std::int64_t i = 0; i < e.size(); ++i) product += moved_by(*errors[k], e, i) * moved_by(*errors[l], e, i);
      if (k == l)
        trace += product;
      else
        trace2 += product * product, ++pairs;
    }
  trace /= static_cast<double>(errors.size()), trace2 /= pairs;
  const auto count = static_cast<double>(e.size());
  if (trace2 > 0) e.independent = std::min(count, trace * trace / trace2);
  e.limit.assign(e.oracle.size(), std::sqrt(trace / std::max(count, 1.0)));  // no element is held to it
}

}  // namespace

reference::NemotronV3Config mixer_config(const Call& layer) {
  const MixerSizes n(layer);
  reference::NemotronV3Config c;
  c.hidden_size = n.hidden_size;
  c.mamba_num_heads = n.heads, c.mamba_head_dim = n.head_dim();
  c.n_groups = n.groups, c.ssm_state_size = n.state_size;
  c.conv_kernel = n.taps;
  c.use_conv_bias = layer.find("param.conv1d.bias") != nullptr;
  c.use_bias = layer.find("param.in_proj.bias") != nullptr;
  c.layer_norm_epsilon = layer.number("eps");
  if (layer.op == "mamba2_mixer.decode") return c;
  c.chunk_size = layer.integer("chunk_size");
  // As a kernel has them.
  c.time_step_limit[0] = static_cast<float>(layer.number("dt_min"));
  c.time_step_limit[1] = static_cast<float>(layer.number("dt_max"));
  return c;
}

void move_by_draw(Tensor<double>& value, int draw, const std::string& tensor, const HostTensor* stored,
                  const Expectation* step, std::int64_t shared) {
  if (step && step->size() != value.size()) step = nullptr;
  const Random random(static_cast<std::uint64_t>(draw), (draw == 0 ? "freedom of " : "error of ") + tensor),
      rounding(static_cast<std::uint64_t>(draw), "rounding of " + tensor);
  for (std::int64_t i = 0; i < value.size(); ++i) {
    const auto at = static_cast<std::size_t>(i);
    if (draw == 0) {
      if (step) value[i] += random.normal(at) * step->freedom[at];
      continue;
    }
    const double half_ulp = stored ? 0.5 * ulp(stored->dtype, value[i]) : 0, sign = value[i] < 0 ? -1 : 1;
    if (step) {
      const double matched = std::max(0.0, std::fabs(step->matched[at] - step->oracle[at]) - half_ulp);
      value[i] += sign * random.normal(at / static_cast<std::size_t>(shared)) * std::hypot(matched, step->freedom[at]);
    }
    value[i] += (2 * rounding.uniform(at) - 1) * half_ulp;
  }
}

LayerResults<double> disturbed_mixer(const Call& layer, const std::vector<Expectation>& steps, int draw) {
  return Disturbed(Layer<double>(layer), steps, draw).run();
}

std::vector<Expectation> whole_layer(const Call& layer, const LayerResults<double>& oracle,
                                     const LayerResults<float>& matched,
                                     const std::function<LayerResults<double>(int)>& disturbed) {
  std::vector<LayerResults<double>> draws;
  for (int draw = 1; draw <= kErrorDraws; ++draw) draws.push_back(disturbed(draw));
  const LayerResults<double> free = disturbed(0);
  std::vector<Expectation> result;
  for (std::size_t k = 0; k < oracle.size(); ++k) {
    Expectation& e = result.emplace_back(expectation_of(layer, oracle[k].first, false));
    e.relative_alone = true;
    e.oracle = to_double(oracle[k].second);
    e.matched = to_double(matched[k].second);
    const Tensor<double>& moved = named(free, e.tensor);
    for (std::int64_t i = 0; i < e.size(); ++i) e.freedom.push_back(std::fabs(moved_by(moved, e, i)));
    set_independent(e, draws);
  }
  return result;
}

std::vector<Expectation> mixer_end_to_end(const Call& layer, const std::vector<Expectation>& steps) {
  const Layer<double> exact(layer);
  const auto matched = Layer<float>(layer).evaluate(matched_numerics(layer.tensor("input.hidden_states").dtype));
  return whole_layer(layer, exact.evaluate({}), matched, [&](int draw) { return Disturbed(exact, steps, draw).run(); });
}

}  // namespace assay::harness
