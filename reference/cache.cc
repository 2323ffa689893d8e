#include "reference/cache.h"

#include <algorithm>

#include "reference/check.h"

namespace assay::reference {
namespace {

template <class T>
void reorder_rows(Tensor<T>& t, const std::vector<Index>& rows) {
  if (t.rank() == 0) return;
  Shape shape = t.shape();
  const Index before = shape[0], each = before == 0 ? 0 : t.size() / before;
  shape[0] = static_cast<Index>(rows.size());
  Tensor<T> result(shape);
  for (std::size_t b = 0; b < rows.size(); ++b) {
    require(rows[b] >= 0 && rows[b] < before, "reorder: row ", rows[b], "; want 0 .. ", before - 1);
    std::copy_n(t.data() + rows[b] * each, each, result.data() + static_cast<Index>(b) * each);
  }
  t = std::move(result);
}

}  // namespace

template <class T>
Index HybridCache<T>::upstream_sequence_length() const {
  for (const KeyValueCache<T>& layer : key_values)
    if (layer.keys.rank() != 0) return layer.length();
  return 0;
}

template <class T>
HybridCache<T> make_cache(const NemotronV3Config& config, Index batch) {
  require(batch >= 0, "make_cache: batch = ", batch, "; want >= 0");
  const std::size_t layers = config.layers_block_type.size();
  HybridCache<T> cache;
  cache.conv_states.resize(layers);
  cache.ssm_states.resize(layers);
  cache.key_values.resize(layers);
  for (std::size_t i = 0; i < layers; ++i) {
    if (config.layers_block_type[i] != BlockType::mamba) continue;
    cache.conv_states[i] = Tensor<T>({batch, config.conv_dim(), config.conv_kernel});
    cache.ssm_states[i] = Tensor<T>({batch, config.mamba_num_heads, config.mamba_head_dim, config.ssm_state_size});
  }
  return cache;
}

template <class T>
void reorder(HybridCache<T>& cache, const std::vector<Index>& rows) {
  for (Tensor<T>& state : cache.conv_states) reorder_rows(state, rows);
  for (Tensor<T>& state : cache.ssm_states) reorder_rows(state, rows);
  for (KeyValueCache<T>& layer : cache.key_values) {
    reorder_rows(layer.keys, rows);
    reorder_rows(layer.values, rows);
  }
  reorder_rows(cache.token_mask, rows);
}

template struct HybridCache<float>;
template struct HybridCache<double>;
template HybridCache<float> make_cache(const NemotronV3Config&, Index);
template HybridCache<double> make_cache(const NemotronV3Config&, Index);
template void reorder(HybridCache<float>&, const std::vector<Index>&);
template void reorder(HybridCache<double>&, const std::vector<Index>&);

}  // namespace assay::reference
