// One Mamba-2, one attention and one MoE block of Nemotron 3 Nano (16 of its 128 experts), forward and backward in double
// over 512 tokens: time, heap, and whether the gradients hold at this size. Exit code 1 if one does not.
#include <chrono>
#include <cmath>
#include <cstdio>

#include "reference/parallel.h"
#include "reference/sums.h"
#include "reference/testing/layer_passes.h"
#include "reference/testing/peak_memory.h"

namespace assay::reference::testing {
namespace {

constexpr double kStep = 1e-5;   // of the direction; the difference's own error is of the order kStep^2 and 2^-52 / kStep
constexpr double kLimit = 1e-6;  // of the derivative's size

double seconds_of(const auto& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}
double mebibytes(std::size_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

// A block, its input and parameters theta, and a direction v in which all of them move at once.
class RealBlock {
 public:
  RealBlock(const LayerSizes& sizes, BlockType type) : config_(sizes.config), type_(type) {
    const Shape shape = {1, sizes.seq_len, config_.hidden_size};
    Random random(1);
    theta_ = mixer_parameters<double>(config_, type, random, "mixer.");
    theta_.set("norm.weight", random.tensor<double>({config_.hidden_size}, 0.5, 1.5));
    theta_.set("hidden_states", random.tensor<double>(shape));
    d_out_ = random.tensor<double>(shape);
  }

  Tensor<double> forward(BlockSaved<double>* saved) const {
    return block_forward<double>({}, config_, {}, type_, ParameterScope<double>(theta_), theta_["hidden_states"], inputs(), saved);
  }
  Parameters<double> backward(const BlockSaved<double>& saved) const {
    Parameters<double> d;
    Tensor<double> d_x = block_backward<double>({}, config_, {}, type_, ParameterScope<double>(theta_), inputs(), saved, d_out_, false,
                                                GradientScope<double>(d));
    d.set("hidden_states", std::move(d_x));
    return d;
  }
  // The experts stay those of this pass: the choice among them has no derivative.
  void keep_experts(const BlockSaved<double>& saved) {
    if (const auto* moe = std::get_if<MoeSaved<double>>(&saved.mixer)) experts_ = moe->router.indices;
  }

  // |<dL/dtheta, v> - (L(theta + h v) - L(theta - h v)) / 2h| over the norm of the terms of <dL/dtheta, v>.
  // L = <d_out, out>; v draws each entry from [-1, 1] of its tensor's scale.
  double gradient_error(const Parameters<double>& d) {
    const Parameters<double> middle = theta_;
    double expected = 0, squares = 0;
    Parameters<double> v;
    Random random(2);
    for (const auto& [name, parameter] : middle.entries()) {
      const Tensor<double>& at = parameter.value;
      const double scale = std::sqrt(dot(at.data(), at.data(), at.size()) / static_cast<double>(at.size()));
      Tensor<double> along = random.tensor<double>(at.shape(), -scale, scale);
      if (const Tensor<double>* g = d.find(name)) {  // none of a correction bias: it only chooses
        for (Index i = 0; i < g->size(); ++i) squares += std::pow((*g)[i] * along[i], 2);
        expected += dot(g->data(), along.data(), g->size());
      }
      v.set(name, std::move(along));
    }
    const auto loss_at = [&](double step) {
      for (auto& [name, parameter] : theta_.entries()) {
        const Tensor<double>&from = middle[name], &along = v[name];
        for (Index i = 0; i < from.size(); ++i) parameter.value[i] = from[i] + step * along[i];
      }
      const Tensor<double> out = forward(nullptr);
      return dot(d_out_.data(), out.data(), out.size());
    };
    const double difference = (loss_at(kStep) - loss_at(-kStep)) / (2 * kStep);
    theta_ = middle;
    return std::fabs(expected - difference) / std::sqrt(squares);
  }

 private:
  MixerInputs<double> inputs() const {
    MixerInputs<double> in;
    if (experts_.size() > 0) in.expert_indices = &experts_;
    return in;
  }

  NemotronV3Config config_;
  BlockType type_;
  Parameters<double> theta_;  // and the input, as "hidden_states"
  Tensor<double> d_out_;
  Tensor<Index> experts_;
};

bool run(const LayerSizes& sizes, const char* name, BlockType type) {
  const std::size_t before = allocated_bytes();
  RealBlock block(sizes, type);
  const std::size_t given = allocated_bytes();
  BlockSaved<double> saved;
  Tensor<double> out;
  Parameters<double> d;
  const auto train = [&] {
    out = block.forward(&saved);
    d = block.backward(saved);
  };
  train();  // the system's first touch of so much memory would be most of the time
  const double forward_s = seconds_of([&] { block.forward(nullptr); });
  saved = {}, out = {}, d = {};
  reset_most_allocated_bytes();
  const double training_s = seconds_of(train);
  const std::size_t most = most_allocated_bytes() - given, left = allocated_bytes() - given, bound = given - before + left;
  block.keep_experts(saved);
  const double error = block.gradient_error(d);
  const double flops = 3 * mixer_flops(sizes.config, type, sizes.seq_len);
  std::printf("%-9s  %9.3f  %18.3f  %7.1f  %8.0f  %9.0f  %14.1e\n", name, forward_s, training_s, flops / training_s / 1e9,
              mebibytes(most), mebibytes(bound), error);
  std::fflush(stdout);
  return error <= kLimit && most <= bound;
}

}  // namespace
}  // namespace assay::reference::testing

int main() {
  using namespace assay::reference;
  const testing::LayerSizes sizes = testing::nano_sizes();
  std::printf("Blocks of Nemotron 3 Nano, 16 experts, float64, %td tokens, %d threads. Heap: besides input and parameters; its\n"
              "bound: input, output, saved tensors and gradients, and twice the parameters. Gradient error: of a direction in\n"
              "which input and all parameters move at once; at most %g.\n\n", sizes.seq_len, threads(), testing::kLimit);
  std::printf("block      forward s  forward+backward s  GFLOP/s  heap MiB  bound MiB  gradient error\n");
  bool held = true;
  for (const auto& [name, type] : {std::pair{"Mamba-2", BlockType::mamba}, {"attention", BlockType::attention}, {"MoE", BlockType::moe}})
    held = testing::run(sizes, name, type) && held;
  std::puts(held ? "PASSED" : "FAILED: a gradient error or a heap beyond its bound");
  return held ? 0 : 1;
}
