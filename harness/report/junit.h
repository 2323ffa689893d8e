// JUnit XML, as CI servers read it: a suite per operation, a case per case line. FAILED is a failure; CRASHED and
// TIMEOUT are errors; NOT_SUPPORTED and SKIPPED are skipped. What is not trusted fails in a suite of its own, "trust".
#pragma once

#include <filesystem>
#include <string>

#include "harness/core/result.h"

namespace assay::harness {

std::string to_junit(const RunResult& run);
void write_junit(const RunResult& run, const std::filesystem::path& file);  // atomic; throws FileError

}  // namespace assay::harness
