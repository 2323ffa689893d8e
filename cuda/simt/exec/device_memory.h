// Device memory, for the launch.
#pragma once

#include <string>

namespace simt {

// Which live allocation was written out of bounds, on which side and where; empty if none. Repairs the zone, so that
// each damage is reported once.
std::string check_device_memory();

}  // namespace simt
