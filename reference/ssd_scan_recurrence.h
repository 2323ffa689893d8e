// The scan by its definition, one token after the other: what the chunked form must equal. Slow, and without the roundings
// of the chunked form: for the double and the float policy.
#pragma once

#include "reference/ssd_scan.h"

namespace assay::reference {

// As ssd_scan_forward; chunk_size is not looked at, entering_states stays empty.
template <class T>
SsdScanForward<T> ssd_scan_recurrence_forward(const Numerics<T>& num, const SsdScanInputs<T>& in);

// As ssd_scan_backward, by the recurrence run backwards.
template <class T>
SsdScanBackward<T> ssd_scan_recurrence_backward(const Numerics<T>& num, const SsdScanInputs<T>& in, const Tensor<T>& d_y,
                                                MaybeTensor<T> d_final_state = nullptr);

}  // namespace assay::reference
