// What a test of the self-test reports: how many values it compared, and the first that are wrong.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <iomanip>
#include <sstream>
#include <string>
#include <type_traits>
#include <vector>

namespace simt::selftest {

// A value for people: its bits as well where it is a float.
template <class T>
std::string text(const T& value) {
  std::ostringstream out;
  if constexpr (std::is_floating_point_v<T>) {
    using Bits = std::conditional_t<sizeof(T) == 8, std::uint64_t, std::uint32_t>;
    Bits bits;
    std::memcpy(&bits, &value, sizeof bits);
    out << std::setprecision(sizeof(T) == 8 ? 17 : 9) << value << " (0x" << std::hex << bits << ")";
  } else if constexpr (std::is_unsigned_v<T>) {
    out << "0x" << std::hex << +value;
  } else {
    out << value;
  }
  return out.str();
}
// "a = 1, b = 2"
template <class T>
std::string operands(const char* name, const T& value) {
  return std::string(name) + " = " + text(value);
}
template <class T, class... Rest>
std::string operands(const char* name, const T& value, const Rest&... rest) {
  return operands(name, value) + ", " + operands(rest...);
}

class Check {
 public:
  // The same bits, or both NaN. `describe` makes the text of the operands when they are wanted.
  template <class T, class Describe>
  void equal(const T& got, const T& wanted, Describe describe) {
    ++values_;
    if (std::memcmp(&got, &wanted, sizeof(T)) == 0) return;
    if constexpr (std::is_floating_point_v<T>) {
      if (std::isnan(got) && std::isnan(wanted)) return;
    }
    fail(describe() + ": got " + text(got) + ", want " + text(wanted));
  }
  // |got - wanted| <= limit, or both NaN, or the same infinity.
  template <class Describe>
  void near(double got, double wanted, double limit, Describe describe) {
    ++values_;
    if (got == wanted || std::abs(got - wanted) <= limit || (std::isnan(got) && std::isnan(wanted))) return;
    fail(describe() + ": got " + text(got) + ", want " + text(wanted) + " within " + text(limit));
  }
  template <class Describe>
  void expect(bool right, Describe describe) {
    ++values_;
    if (!right) fail(describe());
  }

  long values() const { return values_; }
  long failures() const { return failures_; }
  const std::vector<std::string>& first_failures() const { return first_failures_; }

 private:
  void fail(std::string what) {
    constexpr std::size_t kShown = 3;
    if (first_failures_.size() < kShown) first_failures_.push_back(std::move(what));
    ++failures_;
  }
  long values_ = 0, failures_ = 0;
  std::vector<std::string> first_failures_;
};

struct Test {
  const char* name;  // group.wrapper or group.wrapper/what of it
  void (*run)(Check&);
  const char* ptx;   // the instructions that nvcc makes of the wrapper
  int needs_sm = 0;  // the oldest target that has them
};

// One group a file.
std::vector<Test> warp_tests();
std::vector<Test> barrier_tests();
std::vector<Test> atomic_tests();
std::vector<Test> memory_tests();
std::vector<Test> math_tests();
std::vector<Test> convert_tests();
std::vector<Test> fp8_tests();
std::vector<Test> half_tests();
std::vector<Test> async_copy_tests();
std::vector<Test> matrix_tests();
std::vector<Test> launch_tests();
std::vector<Test> trap_tests();

}  // namespace simt::selftest
