// For the tests of the scan with the norm behind it: a problem, run by the fused kernel and by the kernels it stands
// for.
#pragma once

#include <vector>

#include "cuda/gated_rms_norm/gated_rms_norm.h"
#include "cuda/ssd_scan/ssd_scan_normed.h"
#include "cuda/ssd_scan/testing.h"

namespace assay::gpu {

template <class T>
struct NormedProblem {
  ScanProblem<T> scan;  // its z is the norm's; its options.z is not used
  std::size_t shared_memory = kBlockSharedMemory;
  static constexpr float kEps = 1e-5f;

  std::vector<T> weight() const { return test_values<T>(static_cast<std::size_t>(scan.heads * scan.head_dim), 21); }
  struct Results {
    std::vector<T> out, y;
    std::vector<float> rstd, final_state;
  };

  // fused: ssd_scan_normed_forward; else ssd_scan_forward, then gated_rms_norm_forward.
  Results run(bool fused, Method method = Method::automatic, bool keep_y = true) const {
    const SsdScanDims d = scan.dims();
    const auto in = scan.inputs();
    const std::size_t states = scan.states();
    const TestBuffer<T> x(in.x), B(in.B), C(in.C), z(in.z), w(weight()), y(scan.outputs()), out(scan.outputs());
    const TestBuffer<float> dt(in.dt), A(in.A), D(in.D), dt_bias(in.dt_bias), initial(in.initial_state), last(states),
        rstd(static_cast<std::size_t>(scan.batch * scan.seq_len * scan.groups));
    const TestBuffer<std::int32_t> seq_idx(in.seq_idx);
    const TestBuffer<unsigned char> workspace(ssd_scan_normed_workspace(d, sizeof(T), shared_memory));
    SsdScanForward<T> t{.x = x.data(),
                        .dt = dt.data(),
                        .A = A.data(),
                        .B = B.data(),
                        .C = C.data(),
                        .D = D.data(),
                        .D_per_channel = scan.options.D_per_channel,
                        .dt_bias = dt_bias.data(),
                        .y = keep_y ? y.data() : nullptr,
                        .final_state = last.data(),
                        .workspace = workspace.data()};
    if (scan.options.initial_state) t.initial_state = initial.data();
    if (scan.options.documents) t.seq_idx = seq_idx.data();
    if (fused) {
      ssd_scan_normed_forward(
          d, t, SsdScanNorm<T>{.z = z.data(), .weight = w.data(), .eps = kEps, .out = out.data(), .rstd = rstd.data()},
          nullptr, method, shared_memory);
    } else {
      ssd_scan_forward(d, t, nullptr, method);
      const std::int64_t width = d.heads * d.head_dim;
      gated_rms_norm_forward({.rows = d.batch * d.seq_len,
                              .width = width,
                              .group_size = width / d.groups,
                              .row_stride = width,
                              .gate_stride = d.z_stride},
                             GatedRmsNormForward<T>{.hidden_states = y.data(),
                                                    .gate = z.data(),
                                                    .weight = w.data(),
                                                    .eps = kEps,
                                                    .out = out.data(),
                                                    .rstd = rstd.data()},
                             nullptr, method);
    }
    return {out.download(), keep_y ? y.download() : std::vector<T>(), rstd.download(), last.download()};
  }

  // The gated norm, in double, of the y that a run found; beside each value how far a result may be: in float every
  // value passes a function of 2 ulp, a division, a root and at most 50 additions in a row; 64 units of 2^-24 bound
  // them.
  struct Norm {
    std::vector<double> out, limit;
  };
  Norm norm_of(const std::vector<T>& y) const {
    const auto in = scan.inputs();
    const std::vector<T> w = weight();
    const std::int64_t width = scan.heads * scan.head_dim, group = width / scan.groups, stride = scan.dims().z_stride;
    constexpr double kFloat = 64 * 0x1p-24, kRounding = sizeof(T) == 2 ? 0x1p-8 : 0x1p-24;
    const auto at = [](const std::vector<T>& values, std::int64_t i) {
      return static_cast<double>(static_cast<float>(values[static_cast<std::size_t>(i)]));
    };
    Norm norm;
    for (std::int64_t first = 0; first < static_cast<std::int64_t>(y.size()); first += group) {
      std::vector<double> v;
      double squares = 0;
      for (std::int64_t i = first; i < first + group; ++i) {
        const double z = at(in.z, i / width * stride + i % width);
        v.push_back(at(y, i) * z / (1 + std::exp(-z)));
        squares += v.back() * v.back();
      }
      const double rstd = 1 / std::sqrt(squares / static_cast<double>(group) + static_cast<double>(kEps));
      for (std::int64_t i = 0; i < group; ++i) {
        norm.out.push_back(at(w, (first + i) % width) * v[static_cast<std::size_t>(i)] * rstd);
        norm.limit.push_back(std::abs(norm.out.back()) * (kFloat + kRounding));
      }
    }
    return norm;
  }
};

}  // namespace assay::gpu
