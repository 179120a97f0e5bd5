/* Which ways through the compiled code an input takes. Modules that are compiled with -fsanitize-coverage=trace-pc call
   this at each branch target; it counts pairs of consecutive ones, hashed. Preloaded, so that all modules find it. */

#include <stdint.h>

uint8_t picante_coverage[1 << 16];
static __thread uintptr_t before;

void __sanitizer_cov_trace_pc(void)
{
    uintptr_t here = (uintptr_t)__builtin_return_address(0);
    uintptr_t edge = (here ^ before * 0x9E3779B1u) * 0x9E3779B97F4A7C15u;
    uint8_t *count = &picante_coverage[edge >> 48];

    if (*count < 255)
        ++*count;
    before = here;
}
