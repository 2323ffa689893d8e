// Device memory, for the launch.
#pragma once

#include <string>

namespace simt {

// Which live allocation was written out of bounds, on which side and where; empty if none. Repairs the zone, so that
// each damage is reported once.
std::string check_device_memory();

// Inside a live allocation? Without a lock: for use while a launch runs, when none is made or freed.
bool is_device_memory(const void* p);

}  // namespace simt
