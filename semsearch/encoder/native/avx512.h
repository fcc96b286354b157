/* AVX-512 with VNNI and BF16: 16 numbers in a vector, 32 registers. Attention multiplies bfloat16, with float32 sums. */

#include <immintrin.h>

typedef __m512 Floats;
typedef __m512i Ints;
typedef uint16_t Number; /* what attention multiplies: bfloat16 */
typedef __m512i Numbers;

/* So many vectors of a tile's row that are summed at a time: with 4 rows that takes half of the registers. */
#define BLOCK 4

enum {
    LANES = 16,
    PACKED = 2, /* numbers that attention multiplies in a lane */
    LEVELS = 255,
};

INLINE Floats all(float x) { return _mm512_set1_ps(x); }
INLINE Floats load(const float *from) { return _mm512_loadu_ps(from); }
INLINE void store(float *to, Floats x) { _mm512_storeu_ps(to, x); }
INLINE Floats smaller(Floats a, Floats b) { return _mm512_min_ps(a, b); }
INLINE Floats larger(Floats a, Floats b) { return _mm512_max_ps(a, b); }
INLINE Floats multiply_add(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
INLINE Floats rounded(Floats x) { return _mm512_roundscale_ps(x, 0); }
INLINE Floats floats(Ints x) { return _mm512_cvtepi32_ps(x); }
INLINE Floats times_power_of_two(Floats x, Floats n) { return _mm512_scalef_ps(x, n); }
INLINE float sum_of(Floats x) { return _mm512_reduce_add_ps(x); }
INLINE float smallest_of(Floats x) { return _mm512_reduce_min_ps(x); }
INLINE float largest_of(Floats x) { return _mm512_reduce_max_ps(x); }

/* Store a group, rounded, as bytes. */
INLINE void store_bytes(uint8_t *to, const Floats x[GROUP / LANES]) {
    UNROLL
    for (int v = 0; v < GROUP / LANES; v++)
        _mm_storeu_si128((__m128i *)(to + v * LANES), _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(x[v])));
}

/* The sums of a tile's products over one group, of BLOCK vectors of its columns. */
INLINE void dot_group(const uint8_t *numbers, size_t stride, const int8_t *weights, Ints sum[ROWS][BLOCK]) {
    UNROLL
    for (int i = 0; i < ROWS; i++)
        UNROLL
        for (int v = 0; v < BLOCK; v++) sum[i][v] = _mm512_setzero_si512();
    for (int k = 0; k < GROUP / 4; k++, numbers += 4, weights += 4 * GROUP) {
        __m512i w[BLOCK];
        UNROLL
        for (int v = 0; v < BLOCK; v++) w[v] = _mm512_loadu_si512(weights + 64 * v);
        UNROLL
        for (int i = 0; i < ROWS; i++) {
            int32_t four;
            memcpy(&four, numbers + i * stride, 4);
            const __m512i x = _mm512_set1_epi32(four);
            /* In assembly, as compilers copy the sums about otherwise. */
            UNROLL
            for (int v = 0; v < BLOCK; v++) __asm__("vpdpbusd %2, %1, %0" : "+v"(sum[i][v]) : "v"(x), "v"(w[v]));
        }
    }
}

INLINE void store_numbers(Number *to, Floats x) {
    _mm256_storeu_si256((__m256i *)to, (__m256i)_mm512_cvtneps_pbh(x));
}

INLINE Numbers load_numbers(const Number *from) { return _mm512_loadu_si512(from); }

INLINE Numbers broadcast_numbers(const Number *from) {
    int32_t two;
    memcpy(&two, from, 4);
    return _mm512_set1_epi32(two);
}

INLINE Floats dot_numbers(Floats sum, Numbers a, Numbers b) {
    __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
}

/* 16 x 16 numbers of 32 bits, transposed. */
INLINE void transpose(__m512i r[16]) {
    __m512i t[16];
    UNROLL
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    UNROLL
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    UNROLL
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
    }
    UNROLL
    for (int i = 0; i < 4; i++) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
        r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
        r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
    }
}

/* Lay out a head's keys (size / 2, padded tokens, 2) and values (pairs of tokens, size, 2) as right sides of products. */
static void arrange(const Number *key, const Number *value, size_t stride, int tokens, int size, Number *keys,
                    Number *values) {
    const int padded = round_up(tokens, LANES);
    for (int first = 0; first < padded; first += LANES)
        for (int part = 0; part < size / 2; part += LANES) {
            __m512i r[LANES];
            UNROLL
            for (int i = 0; i < LANES; i++)
                r[i] = first + i < tokens ? load_numbers(key + (first + i) * stride + 2 * part) : _mm512_setzero_si512();
            transpose(r);
            UNROLL
            for (int i = 0; i < LANES; i++)
                _mm512_storeu_si512(keys + 2 * ((size_t)(part + i) * padded + first), r[i]);
        }
    for (int row = 0; row < tokens; row += 2)
        for (int c = 0; c < size; c += LANES) {
            const Number *even = value + row * stride + c, *odd = even + stride;
            __m512i a = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)even)), b = _mm512_setzero_si512();
            if (row + 1 < tokens) b = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)odd));
            _mm512_storeu_si512(values + (size_t)row * size + 2 * c, _mm512_or_si512(a, _mm512_slli_epi32(b, 16)));
        }
}
