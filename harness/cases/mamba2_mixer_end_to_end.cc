// Freedom. Each step has a standard deviation of what the contract leaves open, element by element. One draw of all of
// them is carried through the layer in double: each step's result, moved by a normal number times its freedom, is what
// the next step gets. How far the end moves is the end's freedom; over a tensor its root mean square is what gate 3
// asks for.
#include "harness/cases/mamba2_mixer_end_to_end.h"

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

template <class T>
using Results = std::vector<std::pair<std::string, Tensor<T>>>;

// A call's tensors as the reference takes them.
template <class T>
struct Layer {
  const Call& call;
  reference::NemotronV3Config config;
  reference::Parameters<T> parameters;
  Tensor<T> u, conv_state, ssm_state;
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
  }

  bool decode() const { return call.op == "mamba2_mixer.decode"; }
  bool continued() const { return call.op == "mamba2_mixer.prefill" && call.integer("continued") != 0; }
  const Tensor<T>* find(const char* name) const { return parameters.find(name); }
  bool state_in_float32() const { return call.find("ssm_state") && call.tensor("ssm_state").dtype == DType::float32; }

  Results<T> evaluate(const Numerics<T>& num) const {
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

// The layer in double, every step's result moved by one draw of its freedom.
class Disturbed {
 public:
  Disturbed(const Layer<double>& layer, const std::vector<Expectation>& steps)
      : layer_(layer), steps_(steps), n_(layer.call) {}

  Results<double> run() {
    const auto& l = layer_;
    const Tensor<double>& weight = *l.find("conv1d.weight");
    Tensor<double> u = l.u, A = *l.find("_fp32_params.A_log"), conv_state = l.conv_state, ssm_state = l.ssm_state;
    if (l.mask)
      for (std::int64_t i = 0; i < u.size(); ++i) u[i] *= (*l.mask)[i / n_.hidden_size];
    for (double& a : A.span()) a = -num_.exp(a);
    moved("tap.A", A);
    Tensor<double> projected =
        reference::linear_forward<double>(num_, u, *l.find("in_proj.weight"), l.find("in_proj.bias"));
    moved("tap.projected", projected);
    const std::span<const std::int32_t> documents =
        l.seq_idx ? std::span<const std::int32_t>(l.seq_idx->span()) : std::span<const std::int32_t>{};

    const Tensor<double> xBC = channels(projected, n_.inner, n_.channels, tokens({n_.channels}));
    Tensor<double> convolved, scanned;
    const Tensor<double> earlier = last_columns(conv_state);
    if (l.decode())
      convolved = reference::causal_conv1d_update<double>(num_, xBC, conv_state, weight, l.find("conv1d.bias"));
    else
      convolved = reference::causal_conv1d_forward<double>(num_, {.x = xBC,
                                                                  .weight = weight,
                                                                  .bias = l.find("conv1d.bias"),
                                                                  .initial_state = l.continued() ? &earlier : nullptr,
                                                                  .seq_idx = documents})
                      .y;
    moved("tap.convolved", convolved);

    const Tensor<double> x = channels(convolved, 0, n_.inner, tokens({n_.heads, n_.head_dim()})),
                         B = channels(convolved, n_.inner, n_.keys(), tokens({n_.groups, n_.state_size})),
                         C = channels(convolved, n_.inner + n_.keys(), n_.keys(), tokens({n_.groups, n_.state_size})),
                         dt = channels(projected, n_.inner + n_.channels, n_.heads, tokens({n_.heads}));
    const Tensor<double>*D = l.find("_fp32_params.D"), *dt_bias = l.find("_fp32_params.dt_bias");
    if (l.decode()) {
      scanned = reference::ssm_state_update<double>(
          num_, {.x = x, .dt = dt, .A = A, .B = B, .C = C, .D = D, .dt_bias = dt_bias}, ssm_state,
          reference::Storage::native);
    } else {
      const Tensor<double> initial = ssm_state;
      auto scan = reference::ssd_scan_forward<double>(num_, {.x = x,
                                                             .dt = dt,
                                                             .A = A,
                                                             .B = B,
                                                             .C = C,
                                                             .D = D,
                                                             .dt_bias = dt_bias,
                                                             .initial_state = l.continued() ? &initial : nullptr,
                                                             .seq_idx = documents,
                                                             .chunk_size = l.config.chunk_size,
                                                             .dt_min = l.config.time_step_limit[0],
                                                             .dt_max = l.config.time_step_limit[1]});
      scanned = std::move(scan.y), ssm_state = std::move(scan.final_state);
    }
    moved("tap.scanned", scanned);
    moved("ssm_state", ssm_state);

    const reference::Shape rows = {n_.batch * n_.seq_len, n_.inner};
    const Tensor<double> z = channels(projected, 0, n_.inner, rows);
    Tensor<double> normed =
        reference::gated_rms_norm_forward<double>(num_, scanned.reshaped(rows), &z, *l.find("norm.weight"),
                                                  n_.inner / n_.groups, l.config.layer_norm_epsilon)
            .hidden_states;
    moved("tap.normed", normed);
    Tensor<double> out =
        reference::linear_forward<double>(num_, normed, *l.find("out_proj.weight"), l.find("out_proj.bias"));
    moved("output.hidden_states", out);
    return {
        {"output.hidden_states", std::move(out)}, {"conv_state", columns_of(xBC)}, {"ssm_state", std::move(ssm_state)}};
  }

 private:
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

  void moved(const std::string& tensor, Tensor<double>& value) const {
    for (const Expectation& e : steps_) {
      if (e.tensor != tensor || e.size() != value.size()) continue;
      const Random random(0, "freedom of " + tensor);
      for (std::int64_t i = 0; i < value.size(); ++i)
        value[i] += random.normal(static_cast<std::uint64_t>(i)) * e.freedom[static_cast<std::size_t>(i)];
    }
  }

  const Layer<double>& layer_;
  const std::vector<Expectation>& steps_;
  MixerSizes n_;
  Numerics<double> num_;
};

double rms(const std::vector<double>& values) {
  double squares = 0;
  for (const double v : values) squares += v * v;
  return std::sqrt(squares / static_cast<double>(std::max<std::size_t>(values.size(), 1)));
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

std::vector<Expectation> mixer_end_to_end(const Call& layer, const std::vector<Expectation>& steps) {
  const DType dtype = layer.tensor("input.hidden_states").dtype;
  const Layer<double> exact(layer);
  const auto oracle = exact.evaluate({});
  const auto matched = Layer<float>(layer).evaluate(matched_numerics(dtype));
  const auto disturbed = Disturbed(exact, steps).run();
  std::vector<Expectation> result;
  for (std::size_t k = 0; k < oracle.size(); ++k) {
    Expectation& e = result.emplace_back(expectation_of(layer, oracle[k].first, false));
    e.relative_alone = true;
    e.oracle = to_double(oracle[k].second);
    e.matched = to_double(matched[k].second);
    for (std::size_t i = 0; i < e.oracle.size(); ++i) {
      const double moved = disturbed[k].second[static_cast<std::int64_t>(i)];
      e.freedom.push_back(std::isnan(moved) ? 0 : std::fabs(moved - e.oracle[i]));
    }
    // By which small tensors are pooled; no element is held to it.
    e.limit.assign(e.oracle.size(), rms(e.oracle) * (e.dtype == DType::bfloat16 ? 0x1p-8 : kUnit));
  }
  return result;
}

}  // namespace assay::harness
