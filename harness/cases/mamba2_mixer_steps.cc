#include "harness/cases/mamba2_mixer_steps.h"

#include <cstring>

#include "harness/cases/norm_case.h"

namespace assay::harness {
namespace {

// One layer call and its tensors, null where the candidate shows none.
class Steps {
 public:
  explicit Steps(const Call& layer)
      : layer_(layer),
        n_(layer),
        decode_(layer.op == "mamba2_mixer.decode"),
        input_(shown("input.attention_mask") ? shown("tap.masked") : shown("input.hidden_states")),
        projected_(shown("tap.projected")),
        A_(shown("tap.A")),
        convolved_(shown("tap.convolved")),
        scanned_(shown("tap.scanned")),
        normed_(shown("tap.normed")) {}

  std::vector<MixerStep> all() {
    if (layer_.op == "mamba2_mixer.train_backward") return backward();
    if (input_ && projected_) linear(*input_, "in_proj", n_.hidden_size, n_.projected(), "tap.projected");
    if (decode_ && projected_ && A_ && normed_ && !convolved_ && !scanned_) decode_step();
    if (projected_ && convolved_) convolution();
    if (projected_ && A_ && convolved_ && scanned_) scan();
    if (projected_ && scanned_ && normed_) norm();
    if (normed_ && layer_.find("output.hidden_states"))
      linear(*normed_, "out_proj", n_.inner, n_.hidden_size, "output.hidden_states");
    return std::move(steps_);
  }

 private:
  const HostTensor* shown(const char* name) const {
    const HostTensor* t = layer_.find(name);
    return t && (t->role != Role::tap || !t->bytes.empty()) ? t : nullptr;
  }
  std::int64_t tokens() const { return n_.batch * n_.seq_len; }
  // The axes of a token's tensor; decode's operations know no time.
  Shape token_shape(std::initializer_list<std::int64_t> inner) const {
    Shape shape = decode_ ? Shape{n_.batch} : Shape{n_.batch, n_.seq_len};
    shape.insert(shape.end(), inner);
    return shape;
  }

  Call& begin(const char* op, Attributes attributes) {
    return steps_.emplace_back(MixerStep{{op, std::move(attributes), {}}, {}}).call;
  }
  // The bytes of `from` under another name and shape.
  void copy(const char* name, const HostTensor& from, Shape shape) {
    Call& call = steps_.back().call;
    HostTensor t = unwritten_tensor(call.op, name, from.dtype, std::move(shape));
    t.bytes = from.bytes, t.before = from.before;
    call.tensors.push_back(std::move(t));
  }
  void copy_if_any(const char* name, const std::string& parameter, Shape shape) {
    if (const HostTensor* t = layer_.find(parameter)) copy(name, *t, std::move(shape));
  }
  // Channels first .. first + width of every token.
  void slice(const char* name, const HostTensor& from, std::int64_t first, std::int64_t width, Shape shape) {
    Call& call = steps_.back().call;
    HostTensor t = unwritten_tensor(call.op, name, from.dtype, std::move(shape));
    const std::size_t size = size_of(from.dtype), row = static_cast<std::size_t>(from.shape.back()) * size;
    t.bytes.resize(static_cast<std::size_t>(tokens() * width) * size);
    for (std::int64_t token = 0; token < tokens(); ++token)
      std::memcpy(t.bytes.data() + static_cast<std::size_t>(token * width) * size,
                  from.bytes.data() + static_cast<std::size_t>(token) * row + static_cast<std::size_t>(first) * size,
                  static_cast<std::size_t>(width) * size);
    call.tensors.push_back(std::move(t));
  }
  void output(const char* name, const char* of_layer, Shape shape) {
    copy(name, layer_.tensor(of_layer), std::move(shape));
    steps_.back().outputs.push_back({name, of_layer});
  }

  void linear(const HostTensor& x, const std::string& projection, std::int64_t in, std::int64_t out, const char* y) {
    begin("linear.forward", {});
    copy("input.hidden_states", x, {tokens(), in});
    copy("param.weight", layer_.tensor("param." + projection + ".weight"), {out, in});
    copy_if_any("param.bias", "param." + projection + ".bias", {out});
    output("output.hidden_states", y, {tokens(), out});
  }

  void convolution() {
    begin(decode_ ? "causal_conv1d.update" : "causal_conv1d.forward", {{"activation", "silu"}});
    slice("input.hidden_states", *projected_, n_.inner, n_.channels, token_shape({n_.channels}));
    if (const HostTensor* documents = layer_.find("input.seq_idx")) copy("input.seq_idx", *documents, documents->shape);
    if (continued() && n_.taps > 1) {
      const HostTensor& state = layer_.tensor("conv_state");
      HostTensor columns = unwritten_tensor("causal_conv1d.forward", "input.initial_state", state.dtype,
                                            {n_.batch, n_.channels, n_.taps - 1});
      const std::size_t size = size_of(state.dtype), past = static_cast<std::size_t>(n_.taps - 1) * size;
      for (std::int64_t cell = 0; cell < n_.batch * n_.channels; ++cell) {
        const std::byte* const from = state.before.data() + static_cast<std::size_t>(cell) * (past + size) + size;
        columns.bytes.insert(columns.bytes.end(), from, from + past);
      }
      steps_.back().call.tensors.push_back(std::move(columns));
    }
    copy("param.weight", layer_.tensor("param.conv1d.weight"), {n_.channels, n_.taps});
    copy_if_any("param.bias", "param.conv1d.bias", {n_.channels});
    if (decode_) output("conv_state", "conv_state", {n_.batch, n_.channels, n_.taps});
    output("output.hidden_states", "tap.convolved", token_shape({n_.channels}));
  }

  Attributes scan_attributes() const {
    return {{"chunk_size", layer_.integer("chunk_size")},
            {"dt_softplus", std::int64_t{1}},
            {"dt_min", layer_.number("dt_min")},
            {"dt_max", layer_.number("dt_max")}};
  }
  void scan_inputs() {
    slice("input.x", *convolved_, 0, n_.inner, token_shape({n_.heads, n_.head_dim()}));
    slice("input.dt", *projected_, n_.inner + n_.channels, n_.heads, token_shape({n_.heads}));
    copy("input.A", *A_, {n_.heads});
    slice("input.B", *convolved_, n_.inner, n_.keys(), token_shape({n_.groups, n_.state_size}));
    slice("input.C", *convolved_, n_.inner + n_.keys(), n_.keys(), token_shape({n_.groups, n_.state_size}));
    copy("input.D", layer_.tensor("param._fp32_params.D"), {n_.heads});
    copy("input.dt_bias", layer_.tensor("param._fp32_params.dt_bias"), {n_.heads});
  }
  void scan() {
    const Shape states = {n_.batch, n_.heads, n_.head_dim(), n_.state_size};
    if (decode_)
      begin("ssm_state_update.forward", {{"dt_softplus", std::int64_t{1}}});
    else
      begin("ssd_scan.forward", scan_attributes());
    scan_inputs();
    if (decode_) {
      output("state", "ssm_state", states);
    } else {
      if (continued()) {
        HostTensor before = layer_.tensor("ssm_state");
        before.bytes = before.before;
        copy("input.initial_state", before, states);
      }
      if (const HostTensor* documents = layer_.find("input.seq_idx"))
        copy("input.seq_idx", *documents, documents->shape);
      if (layer_.find("ssm_state")) output("output.final_state", "ssm_state", states);
    }
    output("output.y", "tap.scanned", token_shape({n_.heads, n_.head_dim()}));
  }

  void norm_inputs() {
    copy("input.hidden_states", *scanned_, {tokens(), n_.inner});
    slice("input.gate", *projected_, 0, n_.inner, {tokens(), n_.inner});
    copy("param.weight", layer_.tensor("param.norm.weight"), {n_.inner});
  }
  void norm() {
    begin("gated_rms_norm.forward", {{"eps", layer_.number("eps")}, {"group_size", n_.inner / n_.groups}});
    norm_inputs();
    output("output.hidden_states", "tap.normed", {tokens(), n_.inner});
  }

  // Convolution, scan and norm at once, where the candidate shows nothing between.
  void decode_step() {
    begin("mamba2_decode_step.forward", {{"eps", layer_.number("eps")}, {"groups", n_.groups}});
    copy("input.projected", *projected_, {n_.batch, n_.projected()});
    output("conv_state", "conv_state", {n_.batch, n_.channels, n_.taps});
    output("state", "ssm_state", {n_.batch, n_.heads, n_.head_dim(), n_.state_size});
    copy("param.conv_weight", layer_.tensor("param.conv1d.weight"), {n_.channels, n_.taps});
    copy_if_any("param.conv_bias", "param.conv1d.bias", {n_.channels});
    copy("param.dt_bias", layer_.tensor("param._fp32_params.dt_bias"), {n_.heads});
    copy("param.A", *A_, {n_.heads});
    copy("param.D", layer_.tensor("param._fp32_params.D"), {n_.heads});
    copy("param.norm_weight", layer_.tensor("param.norm.weight"), {n_.inner});
    output("output.hidden_states", "tap.normed", {n_.batch, n_.inner});
  }

  std::vector<MixerStep> backward() {
    const HostTensor *d_normed = shown("tap.d_normed"), *d_scanned = shown("tap.d_scanned"),
                     *d_convolved = shown("tap.d_convolved"), *d_projected = shown("tap.d_projected");
    if (normed_)
      linear_backward(*normed_, layer_.tensor("grad.output.hidden_states"), "out_proj", n_.inner, n_.hidden_size,
                      "tap.d_normed");
    if (projected_ && scanned_ && d_normed) norm_backward(*d_normed);
    if (projected_ && A_ && convolved_ && d_scanned) scan_backward(*d_scanned);
    if (projected_ && d_convolved) convolution_backward(*d_convolved);
    const bool masked = layer_.find("input.attention_mask") != nullptr;
    if (input_ && d_projected)
      linear_backward(*input_, *d_projected, "in_proj", n_.hidden_size, n_.projected(),
                      masked ? "tap.d_masked" : "grad.input.hidden_states");
    return std::move(steps_);
  }

  // A gradient of the step; judged where the layer shows it.
  void gradient(const char* name, const std::string& of_layer, Shape shape, std::int64_t first = 0) {
    const HostTensor* const t = layer_.find(of_layer);
    Call& call = steps_.back().call;
    const DType model = layer_.tensor("input.hidden_states").dtype;
    call.tensors.push_back(unwritten_tensor(call.op, name, t ? t->dtype : model, std::move(shape)));
    if (shown(of_layer.c_str())) steps_.back().outputs.push_back({name, of_layer, first});
  }
  void gradient_if_any(const char* name, const std::string& of_layer, Shape shape) {
    if (layer_.find(of_layer)) gradient(name, of_layer, std::move(shape));
  }

  void linear_backward(const HostTensor& x, const HostTensor& d_y, const std::string& projection, std::int64_t in,
                       std::int64_t out, const char* d_x) {
    begin("linear.backward", {});
    copy("input.hidden_states", x, {tokens(), in});
    copy("param.weight", layer_.tensor("param." + projection + ".weight"), {out, in});
    copy("grad.output.hidden_states", d_y, {tokens(), out});
    gradient("grad.input.hidden_states", d_x, {tokens(), in});
    gradient("grad.weight", "grad." + projection + ".weight", {out, in});
    gradient_if_any("grad.bias", "grad." + projection + ".bias", {out});
  }

  void norm_backward(const HostTensor& d_normed) {
    begin("gated_rms_norm.backward", {{"eps", layer_.number("eps")}, {"group_size", n_.inner / n_.groups}});
    norm_inputs();
    copy("grad.output.hidden_states", d_normed, {tokens(), n_.inner});
    gradient("grad.input.hidden_states", "tap.d_scanned", {tokens(), n_.inner});
    gradient("grad.input.gate", "tap.d_projected", {tokens(), n_.inner});
    gradient("grad.weight", "grad.norm.weight", {n_.inner});
  }

  void scan_backward(const HostTensor& d_scanned) {
    const Shape x = token_shape({n_.heads, n_.head_dim()}), keys = token_shape({n_.groups, n_.state_size});
    begin("ssd_scan.backward", scan_attributes());
    scan_inputs();
    copy_if_any("input.seq_idx", "input.seq_idx", {n_.batch, n_.seq_len});
    copy("grad.output.y", d_scanned, x);
    gradient("grad.input.x", "tap.d_convolved", x);
    gradient("grad.input.B", "tap.d_convolved", keys, n_.inner);
    gradient("grad.input.C", "tap.d_convolved", keys, n_.inner + n_.keys());
    gradient("grad.input.dt", "tap.d_projected", token_shape({n_.heads}), n_.inner + n_.channels);
    gradient("grad.input.A", "tap.d_A", {n_.heads});
    gradient("grad.input.D", "grad._fp32_params.D", {n_.heads});
    gradient("grad.input.dt_bias", "grad._fp32_params.dt_bias", {n_.heads});
  }

  void convolution_backward(const HostTensor& d_convolved) {
    begin("causal_conv1d.backward", {{"activation", "silu"}});
    slice("input.hidden_states", *projected_, n_.inner, n_.channels, token_shape({n_.channels}));
    copy_if_any("input.seq_idx", "input.seq_idx", {n_.batch, n_.seq_len});
    copy("param.weight", layer_.tensor("param.conv1d.weight"), {n_.channels, n_.taps});
    copy_if_any("param.bias", "param.conv1d.bias", {n_.channels});
    copy("grad.output.hidden_states", d_convolved, token_shape({n_.channels}));
    gradient("grad.input.hidden_states", "tap.d_projected", token_shape({n_.channels}), n_.inner);
    gradient("grad.weight", "grad.conv1d.weight", {n_.channels, n_.taps});
    gradient_if_any("grad.bias", "grad.conv1d.bias", {n_.channels});
  }

  bool continued() const { return layer_.op == "mamba2_mixer.prefill" && layer_.integer("continued") != 0; }

  const Call& layer_;
  MixerSizes n_;
  bool decode_;
  const HostTensor *input_, *projected_, *A_, *convolved_, *scanned_, *normed_;
  std::vector<MixerStep> steps_;
};

}  // namespace

MixerSizes::MixerSizes(const Call& layer) {
  const Shape& u = layer.tensor("input.hidden_states").shape;
  batch = u.at(0), seq_len = u.at(1), hidden_size = u.at(2);
  heads = layer.tensor("param._fp32_params.A_log").shape.at(0);
  inner = layer.tensor("param.norm.weight").shape.at(0);
  groups = layer.integer("n_groups");
  channels = layer.tensor("param.conv1d.weight").shape.at(0);
  taps = layer.tensor("param.conv1d.weight").shape.at(2);
  state_size = (channels - inner) / 2 / groups;
}

std::vector<MixerStep> mixer_steps(const Call& layer) { return Steps(layer).all(); }

}  // namespace assay::harness
