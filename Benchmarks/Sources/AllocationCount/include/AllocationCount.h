// Counts the allocations of the whole process: its malloc family stands before the C library's.
#pragma once
#include <stdint.h>

uint64_t allocation_count(void);
