/* AVX2: 8 numbers in a vector, 16 registers. Attention multiplies float32.
 *
 * Without VNNI, bytes are multiplied and added in pairs of 16 bits (VPMADDUBSW), four of these are added up in 16 bits,
 * and only their sum is widened to 32. Activations have 7 bits then, and the weights are made so that no such sum of
 * eight products exceeds 16. */

#include <immintrin.h>

typedef __m256 Floats;
typedef __m256i Ints;
typedef float Number;  /* what attention multiplies */
typedef __m256 Numbers;

#if defined(__AVXVNNI__)
#define VNNI "%{vex%} vpdpbusd"
#elif defined(__AVX512VNNI__)
#define VNNI "vpdpbusd"
#endif

/* So many vectors of a tile's row that are summed at a time: with 4 rows that takes half of the registers. */
#define BLOCK 2

enum {
    LANES = 8,
    PACKED = 1, /* numbers that attention multiplies in a lane */
#ifdef VNNI
    LEVELS = 255,
#else
    LEVELS = 127,
#endif
};

INLINE Floats all(float x) { return _mm256_set1_ps(x); }
INLINE Floats load(const float *from) { return _mm256_loadu_ps(from); }
INLINE void store(float *to, Floats x) { _mm256_storeu_ps(to, x); }
INLINE Floats smaller(Floats a, Floats b) { return _mm256_min_ps(a, b); }
INLINE Floats larger(Floats a, Floats b) { return _mm256_max_ps(a, b); }
INLINE Floats multiply_add(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
INLINE Floats rounded(Floats x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
INLINE Floats floats(Ints x) { return _mm256_cvtepi32_ps(x); }

/* x * 2^n for whole n in -126..127. */
INLINE Floats times_power_of_two(Floats x, Floats n) {
    __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return x * _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
}

/* Combine all lanes by an instruction. */
#define REDUCE(x, instruction) \
    ({ \
        __m128 r_ = instruction(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1)); \
        r_ = instruction(r_, _mm_movehl_ps(r_, r_)); \
        _mm_cvtss_f32(instruction(r_, _mm_movehdup_ps(r_))); \
    })
INLINE float sum_of(Floats x) { return REDUCE(x, _mm_add_ps); }
INLINE float smallest_of(Floats x) { return REDUCE(x, _mm_min_ps); }
INLINE float largest_of(Floats x) { return REDUCE(x, _mm_max_ps); }

/* Store a group, rounded, as bytes. */
INLINE void store_bytes(uint8_t *to, const Floats x[GROUP / LANES]) {
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    UNROLL
    for (int v = 0; v < GROUP / LANES; v += 4) {
        __m256i a = _mm256_packus_epi32(_mm256_cvtps_epi32(x[v]), _mm256_cvtps_epi32(x[v + 1]));
        __m256i b = _mm256_packus_epi32(_mm256_cvtps_epi32(x[v + 2]), _mm256_cvtps_epi32(x[v + 3]));
        __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packus_epi16(a, b), order);
        _mm256_storeu_si256((__m256i *)(to + v * LANES), bytes);
    }
}

INLINE __m256i load_weights(const int8_t *from) { return _mm256_loadu_si256((const __m256i *)from); }

INLINE __m256i broadcast_four(const uint8_t *from) {
    int32_t four;
    memcpy(&four, from, 4);
    return _mm256_set1_epi32(four);
}

/* The sums of a tile's products over one group, of BLOCK vectors of its columns. */
INLINE void dot_group(const uint8_t *numbers, size_t stride, const int8_t *weights, Ints sum[ROWS][BLOCK]) {
    UNROLL
    for (int i = 0; i < ROWS; i++)
        UNROLL
        for (int v = 0; v < BLOCK; v++) sum[i][v] = _mm256_setzero_si256();
#ifdef VNNI
    for (int k = 0; k < GROUP / 4; k++, numbers += 4, weights += 4 * GROUP)
        UNROLL
        for (int i = 0; i < ROWS; i++)
            UNROLL
            for (int v = 0; v < BLOCK; v++) {
                const __m256i a = broadcast_four(numbers + i * stride), w = load_weights(weights + 32 * v);
                /* In assembly, as compilers copy the sums about otherwise. */
                __asm__(VNNI " %2, %1, %0" : "+x"(sum[i][v]) : "x"(a), "x"(w));
            }
#else
    for (int k = 0; k < GROUP / 16; k++) {
        __m256i pairs[ROWS][BLOCK];
        UNROLL
        for (int four = 0; four < 4; four++, numbers += 4, weights += 4 * GROUP)
            UNROLL
            for (int i = 0; i < ROWS; i++)
                UNROLL
                for (int v = 0; v < BLOCK; v++) {
                    const __m256i products =
                        _mm256_maddubs_epi16(broadcast_four(numbers + i * stride), load_weights(weights + 32 * v));
                    if (four == 0)
                        pairs[i][v] = products;
                    else /* in assembly, as compilers copy the sums about otherwise */
                        __asm__("vpaddw %1, %0, %0" : "+x"(pairs[i][v]) : "x"(products));
                }
        UNROLL
        for (int i = 0; i < ROWS; i++)
            UNROLL
            for (int v = 0; v < BLOCK; v++)
                sum[i][v] = _mm256_add_epi32(sum[i][v], _mm256_madd_epi16(pairs[i][v], _mm256_set1_epi16(1)));
    }
#endif
}

INLINE void store_numbers(Number *to, Floats x) { store(to, x); }
INLINE Numbers load_numbers(const Number *from) { return _mm256_loadu_ps(from); }
INLINE Numbers broadcast_numbers(const Number *from) { return _mm256_broadcast_ss(from); }
INLINE Floats dot_numbers(Floats sum, Numbers a, Numbers b) { return _mm256_fmadd_ps(a, b, sum); }

/* 8 x 8 numbers, transposed. */
INLINE void transpose(__m256 r[8]) {
    __m256 t[8];
    UNROLL
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    UNROLL
    for (int i = 0; i < 8; i += 4) {
        r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
        r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
        r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    UNROLL
    for (int i = 0; i < 4; i++) {
        t[i] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x20);
        t[i + 4] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x31);
    }
    UNROLL
    for (int i = 0; i < 8; i++) r[i] = t[i];
}

/* Lay out a head's keys (size, padded tokens) and values (tokens, size) as right sides of products. */
static void arrange(const Number *key, const Number *value, size_t stride, int tokens, int size, Number *keys,
                    Number *values) {
    const int padded = round_up(tokens, LANES);
    for (int first = 0; first < padded; first += LANES)
        for (int part = 0; part < size; part += LANES) {
            __m256 r[LANES];
            UNROLL
            for (int i = 0; i < LANES; i++)
                r[i] = first + i < tokens ? load(key + (first + i) * stride + part) : _mm256_setzero_ps();
            transpose(r);
            UNROLL
            for (int i = 0; i < LANES; i++) store(keys + (size_t)(part + i) * padded + first, r[i]);
        }
    for (int row = 0; row < tokens; row++)
        for (int c = 0; c < size; c += LANES) store(values + (size_t)row * size + c, load(value + row * stride + c));
}
