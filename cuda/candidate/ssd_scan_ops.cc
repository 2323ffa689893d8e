// ssd_scan.forward and .backward and ssd_scan_normed.forward of the catalogue, by cuda/ssd_scan.
#include "cuda/candidate/element_types.h"
#include "cuda/candidate/flavour.h"
#include "cuda/candidate/operation.h"
#include "cuda/ssd_scan/ssd_scan.h"
#include "cuda/ssd_scan/ssd_scan_backward.h"
#include "cuda/ssd_scan/ssd_scan_normed.h"

namespace assay::gpu {
namespace {

// What every direction reads. Absent tensors have data = nullptr. The attribute chunk_size, the model's, is not looked
// at: the kernels have chunks of their own, and exact results do not depend on them.
struct ScanInputs {
  explicit ScanInputs(const Call& call);

  Rows x, dt, A, B, C;
  Rows D = {}, z = {}, dt_bias = {}, initial_state = {};
  bool D_per_channel = false, gated;
  const std::int32_t* seq_idx;
  bool dt_softplus;
  float dt_min, dt_max;
  SsdScanDims dims;

  // y before the gate, for backward.
  std::size_t saved_bytes() const {
    const std::int64_t outputs = gated ? dims.batch * dims.seq_len * dims.heads * dims.head_dim : 0;
    return static_cast<std::size_t>(outputs) * size_of(x.element);
  }
  const char* variant() const { return ssd_scan_variant(dims, size_of(x.element), kMethod); }
};

ScanInputs::ScanInputs(const Call& call) {
  const auto x_axes = call.axes("input.x", 4), B_axes = call.axes("input.B", 4);
  const std::int64_t batch = x_axes[0], seq_len = x_axes[1], heads = x_axes[2], head_dim = x_axes[3],
                     groups = B_axes[2], keys = B_axes[3];
  x = call.rows_of("input.x", {batch, seq_len, heads, head_dim}, 2);
  dt = call.rows_of("input.dt", {batch, seq_len, heads}, 2);
  A = call.vector("input.A", heads);
  B = call.rows_of("input.B", {batch, seq_len, groups, keys}, 2);
  C = call.rows_of("input.C", {batch, seq_len, groups, keys}, 2);
  require_element("input.A", A, Element::float32);
  require_element_or_float32("input.dt", dt, x.element);
  require_element("input.B", B, x.element);
  require_element("input.C", C, x.element);
  gated = call.has("input.z");
  if (gated) {
    z = call.rows_of("input.z", {batch, seq_len, heads, head_dim}, 2);
    require_element("input.z", z, x.element);
  }
  if (call.has("input.D")) {
    D_per_channel = call.rank("input.D") == 2;
    D = D_per_channel ? call.compact("input.D", {heads, head_dim}) : call.vector("input.D", heads);
  }
  if (call.has("input.dt_bias")) dt_bias = call.vector("input.dt_bias", heads);
  if (call.has("input.initial_state"))
    initial_state = call.compact("input.initial_state", {batch, heads, head_dim, keys});
  seq_idx = call.int32_data("input.seq_idx", {batch, seq_len});
  dt_softplus = call.int_attribute("dt_softplus") != 0;
  dt_min = call.float_attribute("dt_min");
  dt_max = call.float_attribute("dt_max");
  if (!(dt_min <= dt_max))
    throw Unsupported("attribute dt_min is above dt_max, or one of them is NaN; want dt_min <= dt_max");
  dims = {.batch = batch,
          .seq_len = seq_len,
          .heads = heads,
          .head_dim = head_dim,
          .groups = groups,
          .state_size = keys,
          .x_stride = x.stride,
          .dt_stride = dt.stride,
          .B_stride = B.stride,
          .C_stride = C.stride,
          .z_stride = gated ? z.stride : heads * head_dim};
  (void)variant();  // checks the dims
}

struct Forward : ScanInputs {
  explicit Forward(const Call& call) : ScanInputs(call) {
    call.accept_only({"chunk_size", "dt_softplus", "dt_min", "dt_max"},
                     {"input.x", "input.dt", "input.A", "input.B", "input.C", "input.D", "input.z", "input.dt_bias",
                      "input.initial_state", "input.seq_idx", "input.cu_seqlens", "output.y", "output.final_state",
                      "output.varlen_states", "saved"});
    y = call.compact("output.y", {dims.batch, dims.seq_len, dims.heads, dims.head_dim});
    require_element("output.y", y, x.element);
    wants_final_state = call.has("output.final_state");
    if (wants_final_state) {
      final_state = call.compact("output.final_state", {dims.batch, dims.heads, dims.head_dim, dims.state_size});
      require_element("output.final_state", final_state, Element::float32);
    }
    read_varlen_states(call);
  }

  void read_varlen_states(const Call& call) {
    if (call.has("input.cu_seqlens")) {
      documents = call.axes("input.cu_seqlens", 1)[0] - 1;
      if (documents < 0) throw Unsupported("input.cu_seqlens: empty; want at least [0]");
      cu_seqlens = call.int32_data("input.cu_seqlens", {documents + 1});
    }
    wants_varlen_states = call.has("output.varlen_states");
    if (!wants_varlen_states) return;
    if (dims.batch != 1 || !call.has("input.cu_seqlens") || !call.has("input.seq_idx") ||
        call.has("input.initial_state")) {
      throw Unsupported(
          "output.varlen_states: want one batch row, input.cu_seqlens, input.seq_idx that changes where "
          "documents begin, and no input.initial_state");
    }
    varlen_states = call.compact("output.varlen_states", {documents, dims.heads, dims.head_dim, dims.state_size});
    require_element("output.varlen_states", varlen_states, x.element);
  }

  // The scan's own part of the workspace, then a final state that nobody asked for.
  std::size_t scan_bytes() const { return (ssd_scan_forward_workspace(dims, size_of(x.element)) + 255) / 256 * 256; }
  std::size_t workspace_bytes() const {
    const std::int64_t states = dims.batch * dims.heads * dims.head_dim * dims.state_size;
    return scan_bytes() + (wants_final_state ? 0 : static_cast<std::size_t>(states) * sizeof(float));
  }
  float* final_state_memory(void* workspace) const {
    if (wants_final_state) return final_state.as<float>();
    return reinterpret_cast<float*>(static_cast<std::byte*>(workspace) + scan_bytes());
  }

  Rows y, final_state = {}, varlen_states = {};
  const std::int32_t* cu_seqlens = nullptr;
  std::int64_t documents = 0;
  bool wants_final_state, wants_varlen_states;
};

// What a forward scan reads, but for a gate.
template <class T>
SsdScanForward<T> forward_inputs(const ScanInputs& in) {
  return {.x = in.x.as<T>(),
          .dt = scalars(in.dt),
          .A = in.A.as<float>(),
          .B = in.B.as<T>(),
          .C = in.C.as<T>(),
          .D = scalars(in.D),
          .D_per_channel = in.D_per_channel,
          .dt_bias = scalars(in.dt_bias),
          .initial_state = scalars(in.initial_state),
          .seq_idx = in.seq_idx,
          .dt_softplus = in.dt_softplus,
          .dt_min = in.dt_min,
          .dt_max = in.dt_max};
}

void run_forward(const Call& call, cudaStream_t stream) {
  const Forward f(call);
  visit_element(f.x.element, [&]<class T>() {
    auto scan = forward_inputs<T>(f);
    scan.z = f.z.as<T>();
    scan.y = f.y.as<T>();
    scan.ungated_y = f.gated ? static_cast<T*>(call.saved(f.saved_bytes())) : nullptr;
    scan.final_state = f.final_state_memory(call.workspace());
    scan.cu_seqlens = f.cu_seqlens;
    scan.documents = f.documents;
    scan.varlen_states = f.varlen_states.as<T>();
    scan.workspace = call.workspace();
    ssd_scan_forward(f.dims, scan, stream, kMethod);
  });
}

struct Backward : ScanInputs {
  explicit Backward(const Call& call);

  const char* variant() const { return ssd_scan_backward_variant(dims, strides, size_of(x.element), kMethod); }
  std::size_t workspace_bytes() const {
    return ssd_scan_backward_workspace(dims, strides, size_of(x.element), kMethod);
  }

  Rows d_y, d_final_state = {};
  Rows d_x, d_dt, d_A, d_B, d_C;
  Rows d_D = {}, d_z = {}, d_dt_bias = {}, d_initial_state = {};
  SsdScanGradientStrides strides;
};

Backward::Backward(const Call& call) : ScanInputs(call) {
  const auto if_has = [&](const char* input, const char* gradient) { return call.has(input) ? gradient : ""; };
  call.accept_only({"chunk_size", "dt_softplus", "dt_min", "dt_max"},
                   {"input.x",
                    "input.dt",
                    "input.A",
                    "input.B",
                    "input.C",
                    "input.D",
                    "input.z",
                    "input.dt_bias",
                    "input.initial_state",
                    "input.seq_idx",
                    "grad.output.y",
                    "grad.output.final_state",
                    "saved",
                    "grad.input.x",
                    "grad.input.dt",
                    "grad.input.A",
                    "grad.input.B",
                    "grad.input.C",
                    if_has("input.D", "grad.input.D"),
                    if_has("input.z", "grad.input.z"),
                    if_has("input.dt_bias", "grad.input.dt_bias"),
                    if_has("input.initial_state", "grad.input.initial_state")});
  const auto state = [&](const char* name, Element element) {
    if (!call.has(name)) return Rows{};
    const Rows rows = call.compact(name, {dims.batch, dims.heads, dims.head_dim, dims.state_size});
    require_element(name, rows, element);
    return rows;
  };
  const auto tokens = [&](const char* name, const Rows& like, std::int64_t inner, std::int64_t width) {
    const Rows rows = call.rows_of(name, {dims.batch, dims.seq_len, inner, width}, 2);
    require_element(name, rows, like.element);
    return rows;
  };
  d_y = call.compact("grad.output.y", {dims.batch, dims.seq_len, dims.heads, dims.head_dim});
  require_element("grad.output.y", d_y, x.element);
  d_final_state = state("grad.output.final_state", Element::float32);
  d_x = tokens("grad.input.x", x, dims.heads, dims.head_dim);
  d_dt = call.rows_of("grad.input.dt", {dims.batch, dims.seq_len, dims.heads}, 2);
  require_element("grad.input.dt", d_dt, dt.element);
  d_A = call.vector("grad.input.A", dims.heads);
  require_element("grad.input.A", d_A, Element::float32);
  d_B = tokens("grad.input.B", x, dims.groups, dims.state_size);
  d_C = tokens("grad.input.C", x, dims.groups, dims.state_size);
  if (call.has("input.D")) {
    d_D = D_per_channel ? call.compact("grad.input.D", {dims.heads, dims.head_dim})
                        : call.vector("grad.input.D", dims.heads);
    require_element("grad.input.D", d_D, Element::float32);
  }
  if (gated) d_z = tokens("grad.input.z", x, dims.heads, dims.head_dim);
  if (call.has("input.dt_bias")) {
    d_dt_bias = call.vector("grad.input.dt_bias", dims.heads);
    require_element("grad.input.dt_bias", d_dt_bias, Element::float32);
  }
  d_initial_state = state("grad.input.initial_state", initial_state.element);
  strides = {.x = d_x.stride,
             .dt = d_dt.stride,
             .B = d_B.stride,
             .C = d_C.stride,
             .z = gated ? d_z.stride : dims.heads * dims.head_dim};
  (void)variant();
}

void run_backward(const Call& call, cudaStream_t stream) {
  const Backward b(call);
  visit_element(b.x.element, [&]<class T>() {
    ssd_scan_backward(
        b.dims,
        SsdScanBackward<T>{.x = b.x.as<T>(),
                           .dt = scalars(b.dt),
                           .A = b.A.as<float>(),
                           .B = b.B.as<T>(),
                           .C = b.C.as<T>(),
                           .D = scalars(b.D),
                           .D_per_channel = b.D_per_channel,
                           .z = b.z.as<T>(),
                           .dt_bias = scalars(b.dt_bias),
                           .initial_state = scalars(b.initial_state),
                           .seq_idx = b.seq_idx,
                           .dt_softplus = b.dt_softplus,
                           .dt_min = b.dt_min,
                           .dt_max = b.dt_max,
                           .ungated_y = b.gated ? static_cast<const T*>(call.saved(b.saved_bytes())) : nullptr,
                           .d_y = b.d_y.as<T>(),
                           .d_final_state = b.d_final_state.as<float>(),
                           .strides = b.strides,
                           .d_x = b.d_x.as<T>(),
                           .d_dt = b.d_dt.data,
                           .d_B = b.d_B.as<T>(),
                           .d_C = b.d_C.as<T>(),
                           .d_z = b.d_z.as<T>(),
                           .d_A = b.d_A.as<float>(),
                           .d_D = b.d_D.as<float>(),
                           .d_dt_bias = b.d_dt_bias.as<float>(),
                           .d_initial_state = b.d_initial_state.data,
                           .workspace = call.workspace()},
        stream, kMethod);
  });
}

// The scan with the gate and the norm behind it. Its z is the norm's.
struct Normed : ScanInputs {
  explicit Normed(const Call& call) : ScanInputs(call), norm_weight(call.vector("param.norm_weight", width())) {
    call.accept_only({"chunk_size", "dt_softplus", "dt_min", "dt_max", "eps"},
                     {"input.x", "input.dt", "input.A", "input.B", "input.C", "input.D", "input.z", "input.dt_bias",
                      "input.initial_state", "input.seq_idx", "param.norm_weight", "output.y", "output.final_state",
                      "output.hidden_states"});
    if (!call.has("input.z")) throw Unsupported("input.z: not in the call; want the gate of the norm");
    require_element("param.norm_weight", norm_weight, x.element);
    y = call.compact("output.y", {dims.batch, dims.seq_len, dims.heads, dims.head_dim});
    require_element("output.y", y, x.element);
    out = call.compact("output.hidden_states", {dims.batch, dims.seq_len, dims.heads, dims.head_dim});
    require_element("output.hidden_states", out, x.element);
    if (!call.has("output.final_state")) return;
    final_state = call.compact("output.final_state", {dims.batch, dims.heads, dims.head_dim, dims.state_size});
    require_element("output.final_state", final_state, Element::float32);
  }

  std::int64_t width() const { return dims.heads * dims.head_dim; }
  const char* variant() const { return ssd_scan_normed_variant(dims, size_of(x.element), kMethod); }
  // The kernel's own part of the workspace, then a final state, which may be one that nobody asked for.
  std::size_t kernel_bytes() const { return (ssd_scan_normed_workspace(dims, size_of(x.element)) + 255) / 256 * 256; }
  std::size_t workspace_bytes() const {
    return kernel_bytes() + static_cast<std::size_t>(dims.batch * width() * dims.state_size) * sizeof(float);
  }

  Rows norm_weight, y, out, final_state = {};
};

void run_normed(const Call& call, cudaStream_t stream) {
  const Normed f(call);
  auto* const spare = reinterpret_cast<float*>(static_cast<std::byte*>(call.workspace()) + f.kernel_bytes());
  visit_element(f.x.element, [&]<class T>() {
    auto scan = forward_inputs<T>(f);
    scan.y = f.y.as<T>();
    scan.final_state = f.final_state.data != nullptr ? f.final_state.as<float>() : spare;
    scan.workspace = call.workspace();
    ssd_scan_normed_forward(f.dims, scan,
                            SsdScanNorm<T>{.z = f.z.as<T>(),
                                           .weight = f.norm_weight.as<T>(),
                                           .eps = call.float_attribute("eps"),
                                           .out = f.out.as<T>()},
                            stream, kMethod);
  });
}

// The chunked variants multiply on tensor cores, in bfloat16 or float32 split into tf32.
template <class Direction>
void amend_contract(const Call& call, assay_contract& contract) {
  const Direction in(call);
  if (std::string_view(in.variant()) != "chunked") return;
  contract.multiply = in.x.element == Element::float32 ? ASSAY_MULTIPLY_3XTF32 : ASSAY_MULTIPLY_BF16;
  contract.accumulate = ASSAY_ACCUMULATE_FP32_TENSOR_CORE;
}

constexpr Operation kOperations[] = {
    {.name = "ssd_scan.forward",
     .check = [](const Call& call) { (void)Forward(call); },
     .variant = [](const Call& call) { return Forward(call).variant(); },
     .workspace_bytes = [](const Call& call) { return Forward(call).workspace_bytes(); },
     .saved_bytes = [](const Call& call) { return Forward(call).saved_bytes(); },
     .run = run_forward,
     .amend_contract = amend_contract<Forward>},
    {.name = "ssd_scan.backward",
     .check = [](const Call& call) { (void)Backward(call); },
     .variant = [](const Call& call) { return Backward(call).variant(); },
     .workspace_bytes = [](const Call& call) { return Backward(call).workspace_bytes(); },
     .saved_bytes = [](const Call&) { return std::size_t{0}; },
     .run = run_backward,
     .amend_contract = amend_contract<Backward>},
    {.name = "ssd_scan_normed.forward",
     .check = [](const Call& call) { (void)Normed(call); },
     .variant = [](const Call& call) { return Normed(call).variant(); },
     .workspace_bytes = [](const Call& call) { return Normed(call).workspace_bytes(); },
     .saved_bytes = [](const Call&) { return std::size_t{0}; },
     .run = run_normed,
     .amend_contract = amend_contract<ScanInputs>},  // of the scan in it
};

}  // namespace

std::span<const Operation> ssd_scan_operations() { return kOperations; }

}  // namespace assay::gpu
