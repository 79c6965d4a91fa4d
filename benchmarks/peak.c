/* How fast a core multiplies and adds: CHAINS independent chains of vectors of LANES numbers, kept
   in registers, so that nothing but the arithmetic units limits them. roofline.py compiles it. */

#include <stdint.h>

enum { CHAINS = 12 }; /* more than latency times units, few enough for 16 registers */
typedef float vec __attribute__((vector_size(4 * LANES)));

/* Returns the floating-point operations done. The sum goes to *sink, so that it is done at all. */
double chains(int64_t times, float factor, float term, float *sink) {
    vec sums[CHAINS], total = {0};
    for (int c = 0; c < CHAINS; c++) sums[c] = (vec){0} + (float)c;
    for (int64_t i = 0; i < times; i++)
        for (int c = 0; c < CHAINS; c++) sums[c] = sums[c] * factor + term;
    for (int c = 0; c < CHAINS; c++) total += sums[c];
    for (int l = 0; l < LANES; l++) *sink += total[l];
    return 2.0 * LANES * CHAINS * (double)times;
}
