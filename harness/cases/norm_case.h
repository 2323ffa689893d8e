// What the cases of the two norms share: building tensors, and the table of sizes.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "harness/cases/family.h"
#include "harness/cases/norm_fill.h"
#include "reference/numerics.h"
#include "reference/tensor.h"

namespace assay::harness {

// A tensor of the catalogue's operation `op`, holding `values` rounded to `dtype`; no values: no bytes yet, or an
// output.
HostTensor case_tensor(const std::string& op, const std::string& name, DType dtype, Shape shape,
                       const std::vector<double>& values = {});
HostTensor unwritten_tensor(const std::string& op, const std::string& name, DType dtype, Shape shape);  // to be linked
HostTensor saved_tensor();

// Every second case passes the rows of `x` as a strided view: `layout=strided`, rows `width + 8` elements apart.
void make_rows_strided(HostTensor& tensor, std::int64_t gap);

template <class T>
reference::Tensor<T> to_reference(const HostTensor& tensor);
// As [rows, last axis].
template <class T>
reference::Tensor<T> to_reference_rows(const HostTensor& tensor);
std::vector<double> to_double(const reference::Tensor<float>& tensor);
std::vector<double> to_double(const reference::Tensor<double>& tensor);

// The matched arithmetic of a model of this dtype.
reference::Numerics<float> matched_numerics(DType dtype);

// "1e-05" as a number; throws std::invalid_argument naming the option.
double eps_option(const Case& c);
// Throws std::invalid_argument unless the case has one of these paths and exactly these sizes and options, in this order,
// with known values.
void check_form(const Case& c, const std::vector<std::string>& sizes,
                const std::vector<std::pair<std::string, std::vector<std::string>>>& options,
                const std::vector<std::string>& paths = {"forward", "backward"});

// An expectation whose oracle, limit, freedom and matched parts are still empty.
Expectation expectation_of(const Call& call, const std::string& tensor, bool exact);

}  // namespace assay::harness
