/* The forward pass of a BERT-family encoder in int8, for CPUs with AVX512-VNNI and AVX512-BF16.
 *
 * Both sides of a matrix product are quantized in groups of 64 along the inner dimension. A group of a row of
 * activations is x = low + scale * q with q in 0..255, made anew for every row; a group of a column of weights is
 * w = scale * q with q in -127..127. A group's share of the product is then
 *
 *     sum(x * w) = scale_w * (scale_x * sum(q_x * q_w) + low_x * sum(q_w))
 *
 * where sum(q_x * q_w) is what VPDPBUSD computes, and scale_w * sum(q_w) is known beforehand. A few columns of the
 * hidden states are far larger than the others in every text, and would leave the rest of their group few steps of its
 * scale: what they give is added in float32, and for the integers they are zero (as LLM.int8 does, Dettmers et al. 2022).
 * Attention is in bfloat16 with float32 sums; everything else, the residual stream too, is in float32.
 *
 * A call takes whole texts, one after the other without padding, and computes each row by itself: a text's result does
 * not depend on what stands beside it. There is no state but the caller's scratch, so threads need no locks.
 */

#include <immintrin.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")

enum {
    LANES = 16,              /* floats in a vector */
    GROUP = 64,              /* numbers that share a scale; columns of a tile too, so that a tile's row is a group */
    VECTORS = GROUP / LANES, /* vectors in a tile's row */
    EXACT = 4,               /* inner columns of a matrix that are multiplied in float32 */
    ROWS = 4,                /* rows of a tile: its 16 sums stay in registers */
};

/* A layer's matrix, of columns x inner numbers. */
typedef struct {
    const int8_t *weights; /* (columns / 64, inner / 4, 64, 4) */
    const float *scales;   /* (columns / 64, inner / 64, 64) */
    const float *sums;     /* (columns / 64, inner / 64, 64): scale * sum(q) */
    const float *bias;     /* (columns) */
    const int32_t *exact;  /* (4): inner columns whose weights are zero above; or NULL */
    const float *exact_weights; /* (columns / 64, 4, 64) */
    const float *kept;     /* (inner): 0 for those columns, 1 for the others */
} Matrix;

typedef struct {
    Matrix query_key_value, attended, up, down; /* the query's is divided by sqrt(head size) beforehand */
    const float *attended_scale, *attended_shift, *down_scale, *down_shift;
} Layer;

typedef struct {
    int32_t hidden, intermediate, heads, layers, max_tokens;
    float epsilon;
    const float *words, *positions; /* (vocabulary, hidden), (positions, hidden) */
    const float *embedding_scale, *embedding_shift;
    const float *distances; /* (heads, 2 * max_tokens - 1), added to a score by the key's place less the query's; or NULL */
    const Layer *layer;
} Model;

/* Quantized activations of some width. */
typedef struct {
    uint8_t *numbers;    /* (rows, width) */
    float *scales, *lows; /* (rows, width / 64) */
    int width;
} Quantized;

typedef struct {
    float *hidden;          /* (rows, hidden): the residual stream */
    uint16_t *projected;    /* (rows, 3 * hidden), bfloat16: queries, keys, values */
    Quantized narrow, wide; /* of width hidden and intermediate */
    uint32_t *keys, *values; /* of one head: (head size / 2, tokens) and (tokens / 2, head size) pairs of bfloat16 */
    float *scores;          /* (4, tokens) */
    uint16_t *shares;       /* (4, tokens), bfloat16: softmax of the scores before division by their sum */
    float *attended;        /* (tokens, 64): what the heads of a group give */
} Scratch;

INLINE int round_up(int n, int multiple) { return (n + multiple - 1) / multiple * multiple; }

/* sum + a . b over four uint8 of a and int8 of b a lane. In assembly, as compilers copy the sums about otherwise. */
INLINE __m512i dot_int8(__m512i sum, __m512i a, __m512i b) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
}

/* sum + a . b over two bfloat16 a lane. */
INLINE __m512 dot_bfloat16(__m512 sum, __m512i a, __m512i b) {
    __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
}

INLINE void store_bfloat16(uint16_t *to, __m512 x) { _mm256_storeu_si256((__m256i *)to, (__m256i)_mm512_cvtneps_pbh(x)); }

/* e^x for x <= 0: 2^n by the exponent, the rest by its Taylor series, 1e-6 off at most. */
INLINE __m512 exponential(__m512 x) {
    x = _mm512_max_ps(x, _mm512_set1_ps(-87));
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 0);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.69314718f), x);
    __m512 y = _mm512_set1_ps(1.0f / 120);
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0f / 24));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0f / 6));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(0.5f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1));
    return _mm512_scalef_ps(y, n);
}

/* x * (1 + erf(x / sqrt(2))) / 2 (Hendrycks and Gimpel 2016), 2e-5 off at most: the distribution's odd part as a
 * polynomial fitted by least squares on 4,000 Chebyshev nodes of -4.5..4.5, beyond which it is taken as constant. */
INLINE __m512 gelu(__m512 x) {
    static const float odd[] = {3.98883790e-01f, -6.63370490e-02f, 9.83318035e-03f, -1.12267688e-03f, 9.78710450e-05f, -6.36521963e-06f, 2.95887304e-07f, -9.19363963e-09f, 1.69727815e-10f, -1.40004176e-12f};
    const __m512 limit = _mm512_set1_ps(4.5f);
    __m512 t = _mm512_max_ps(_mm512_min_ps(x, limit), _mm512_sub_ps(_mm512_setzero_ps(), limit));
    __m512 square = _mm512_mul_ps(t, t);
    __m512 y = _mm512_set1_ps(odd[9]);
    UNROLL
    for (int i = 8; i >= 0; i--) y = _mm512_fmadd_ps(y, square, _mm512_set1_ps(odd[i]));
    return _mm512_mul_ps(x, _mm512_fmadd_ps(y, t, _mm512_set1_ps(0.5f)));
}

/* Quantize group `group` of row `row`. */
INLINE void quantize(Quantized *to, size_t row, int group, const __m512 x[VECTORS]) {
    __m512 low = x[0], high = x[0];
    UNROLL
    for (int v = 1; v < VECTORS; v++) {
        low = _mm512_min_ps(low, x[v]);
        high = _mm512_max_ps(high, x[v]);
    }
    float least = _mm512_reduce_min_ps(low), range = _mm512_reduce_max_ps(high) - least;
    __m512 inverse = _mm512_set1_ps(range > 0 ? 255 / range : 0), base = _mm512_set1_ps(least);
    uint8_t *numbers = to->numbers + row * to->width + group * GROUP;
    UNROLL
    for (int v = 0; v < VECTORS; v++) {
        __m512i q = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_sub_ps(x[v], base), inverse));
        _mm_storeu_si128((__m128i *)(numbers + v * LANES), _mm512_cvtusepi32_epi8(q));
    }
    size_t at = row * (to->width / GROUP) + group;
    to->scales[at] = range / 255;
    to->lows[at] = least;
}

/* A tile of the product of activations and a matrix, its bias added: rows from `row` on, columns of one panel. `exact` is
 * what was quantized, in rows of the same width, for a matrix with exact columns; else NULL. */
INLINE void multiply(const Quantized *a, size_t row, const Matrix *b, size_t panel, const float *exact,
                     float out[ROWS][GROUP]) {
    const int groups = a->width / GROUP;
    const uint8_t *numbers = a->numbers + row * a->width;
    const int8_t *weights = b->weights + panel * GROUP * a->width;
    const float *scales = b->scales + panel * GROUP * groups, *sums = b->sums + panel * GROUP * groups;
    const float *row_scales = a->scales + row * groups, *row_lows = a->lows + row * groups;
    UNROLL
    for (int v = 0; v < VECTORS; v++) {
        const __m512 bias = _mm512_loadu_ps(b->bias + panel * GROUP + v * LANES);
        __m512 w[EXACT];
        UNROLL
        for (int e = 0; exact && e < EXACT; e++)
            w[e] = _mm512_loadu_ps(b->exact_weights + (panel * EXACT + e) * GROUP + v * LANES);
        UNROLL
        for (int i = 0; i < ROWS; i++) {
            __m512 y = bias;
            UNROLL
            for (int e = 0; exact && e < EXACT; e++)
                y = _mm512_fmadd_ps(w[e], _mm512_set1_ps(exact[(row + i) * a->width + b->exact[e]]), y);
            _mm512_storeu_ps(out[i] + v * LANES, y);
        }
    }
    for (int group = 0; group < groups; group++, scales += GROUP, sums += GROUP) {
        __m512i sum[ROWS][VECTORS];
        UNROLL
        for (int i = 0; i < ROWS; i++)
            UNROLL
            for (int v = 0; v < VECTORS; v++) sum[i][v] = _mm512_setzero_si512();
        for (int k = 0; k < GROUP / 4; k++, numbers += 4, weights += 4 * GROUP) {
            __m512i w[VECTORS];
            UNROLL
            for (int v = 0; v < VECTORS; v++) w[v] = _mm512_loadu_si512(weights + 64 * v);
            UNROLL
            for (int i = 0; i < ROWS; i++) {
                int32_t four;
                memcpy(&four, numbers + (size_t)i * a->width, 4);
                __m512i x = _mm512_set1_epi32(four);
                UNROLL
                for (int v = 0; v < VECTORS; v++) sum[i][v] = dot_int8(sum[i][v], x, w[v]);
            }
        }
        UNROLL
        for (int v = 0; v < VECTORS; v++) {
            __m512 scale = _mm512_loadu_ps(scales + v * LANES), total = _mm512_loadu_ps(sums + v * LANES);
            UNROLL
            for (int i = 0; i < ROWS; i++) {
                __m512 s = _mm512_mul_ps(scale, _mm512_set1_ps(row_scales[i * groups + group]));
                __m512 low = _mm512_set1_ps(row_lows[i * groups + group]);
                __m512 y = _mm512_fmadd_ps(total, low, _mm512_loadu_ps(out[i] + v * LANES));
                _mm512_storeu_ps(out[i] + v * LANES, _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[i][v]), s, y));
            }
        }
    }
}

/* Layer normalization of rows in place (Ba et al. 2016), and their quantization for the product with `next`. */
static void normalize(float *rows, int count, const Model *model, const float *scale, const float *shift,
                      const Matrix *next, Quantized *to) {
    const int width = model->hidden;
    for (int row = 0; row < count; row++) {
        float *x = rows + (size_t)row * width;
        __m512 sum = _mm512_setzero_ps(), squares = _mm512_setzero_ps();
        for (int c = 0; c < width; c += LANES) sum = _mm512_add_ps(sum, _mm512_loadu_ps(x + c));
        const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / width);
        for (int c = 0; c < width; c += LANES) {
            __m512 d = _mm512_sub_ps(_mm512_loadu_ps(x + c), mean);
            squares = _mm512_fmadd_ps(d, d, squares);
        }
        const __m512 inverse = _mm512_set1_ps(1 / sqrtf(_mm512_reduce_add_ps(squares) / width + model->epsilon));
        for (int group = 0; group < width / GROUP; group++) {
            __m512 y[VECTORS];
            UNROLL
            for (int v = 0; v < VECTORS; v++) {
                const int c = group * GROUP + v * LANES;
                __m512 d = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(x + c), mean), inverse);
                y[v] = _mm512_fmadd_ps(d, _mm512_loadu_ps(scale + c), _mm512_loadu_ps(shift + c));
                _mm512_storeu_ps(x + c, y[v]);
                y[v] = _mm512_mul_ps(y[v], _mm512_loadu_ps(next->kept + c));
            }
            quantize(to, row, group, y);
        }
    }
}

static void embed(const Model *model, const int32_t *ids, const int32_t *positions, int tokens, int rows, Scratch *s) {
    const int width = model->hidden;
    for (int row = 0; row < tokens; row++) {
        const float *word = model->words + (size_t)ids[row] * width;
        const float *position = model->positions + (size_t)positions[row] * width;
        float *x = s->hidden + (size_t)row * width;
        for (int c = 0; c < width; c += LANES)
            _mm512_storeu_ps(x + c, _mm512_add_ps(_mm512_loadu_ps(word + c), _mm512_loadu_ps(position + c)));
    }
    /* Rows that fill up the last tile; what they give is not used. */
    memset(s->hidden + (size_t)tokens * width, 0, (size_t)(rows - tokens) * width * sizeof(float));
    normalize(s->hidden, rows, model, model->embedding_scale, model->embedding_shift,
              &model->layer->query_key_value, &s->narrow);
}

static void project(const Quantized *a, const Matrix *matrix, const float *exact, int rows, int columns, uint16_t *out) {
    for (int panel = 0; panel < columns / GROUP; panel++)
        for (int row = 0; row < rows; row += ROWS) {
            float tile[ROWS][GROUP];
            multiply(a, row, matrix, panel, exact, tile);
            for (int i = 0; i < ROWS; i++)
                UNROLL
                for (int v = 0; v < VECTORS; v++)
                    store_bfloat16(out + (size_t)(row + i) * columns + panel * GROUP + v * LANES,
                                   _mm512_loadu_ps(tile[i] + v * LANES));
        }
}

static void add_product(const Quantized *a, const Matrix *matrix, int rows, int columns, float *hidden) {
    for (int panel = 0; panel < columns / GROUP; panel++)
        for (int row = 0; row < rows; row += ROWS) {
            float tile[ROWS][GROUP];
            multiply(a, row, matrix, panel, NULL, tile);
            for (int i = 0; i < ROWS; i++)
                UNROLL
                for (int v = 0; v < VECTORS; v++) {
                    float *x = hidden + (size_t)(row + i) * columns + panel * GROUP + v * LANES;
                    _mm512_storeu_ps(x, _mm512_add_ps(_mm512_loadu_ps(x), _mm512_loadu_ps(tile[i] + v * LANES)));
                }
        }
}

static void expand(const Quantized *a, const Matrix *matrix, const float *exact, int rows, Quantized *out) {
    for (int panel = 0; panel < out->width / GROUP; panel++)
        for (int row = 0; row < rows; row += ROWS) {
            float tile[ROWS][GROUP];
            multiply(a, row, matrix, panel, exact, tile);
            for (int i = 0; i < ROWS; i++) {
                __m512 x[VECTORS];
                UNROLL
                for (int v = 0; v < VECTORS; v++) x[v] = gelu(_mm512_loadu_ps(tile[i] + v * LANES));
                quantize(out, row + i, panel, x);
            }
        }
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

/* Lay out a head's keys and values as the right sides of bfloat16 products; rows beyond the text are zero. */
static void arrange(const uint16_t *key, const uint16_t *value, size_t stride, int tokens, int size, Scratch *s) {
    const int padded = round_up(tokens, LANES);
    for (int first = 0; first < padded; first += LANES)
        for (int part = 0; part < size / 2; part += LANES) {
            __m512i r[16];
            UNROLL
            for (int i = 0; i < 16; i++)
                r[i] = first + i < tokens ? _mm512_loadu_si512(key + (first + i) * stride + 2 * part) : _mm512_setzero_si512();
            transpose(r);
            UNROLL
            for (int i = 0; i < 16; i++) _mm512_storeu_si512(s->keys + (size_t)(part + i) * padded + first, r[i]);
        }
    for (int pair = 0; pair < padded / 2; pair++)
        for (int c = 0; c < size; c += LANES) {
            const uint16_t *even = value + 2 * pair * stride + c, *odd = even + stride;
            __m512i a = _mm512_setzero_si512(), b = a;
            if (2 * pair < tokens) a = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)even));
            if (2 * pair + 1 < tokens) b = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)odd));
            _mm512_storeu_si512(s->values + (size_t)pair * size + c, _mm512_or_si512(a, _mm512_slli_epi32(b, 16)));
        }
}

/* A tile of a bfloat16 product, of 4 rows and `vectors` vectors of columns; `left` and `right` in pairs. */
INLINE void multiply_bfloat16(const uint16_t *left, size_t left_stride, const uint32_t *right, size_t right_stride,
                              int pairs, const int vectors, float *out, size_t out_stride) {
    __m512 sum[ROWS][VECTORS];
    UNROLL
    for (int i = 0; i < ROWS; i++)
        UNROLL
        for (int v = 0; v < vectors; v++) sum[i][v] = _mm512_setzero_ps();
    for (int k = 0; k < pairs; k++, left += 2, right += right_stride) {
        __m512i b[VECTORS];
        UNROLL
        for (int v = 0; v < vectors; v++) b[v] = _mm512_loadu_si512(right + v * LANES);
        UNROLL
        for (int i = 0; i < ROWS; i++) {
            int32_t two;
            memcpy(&two, left + i * left_stride, 4);
            __m512i a = _mm512_set1_epi32(two);
            UNROLL
            for (int v = 0; v < vectors; v++) sum[i][v] = dot_bfloat16(sum[i][v], a, b[v]);
        }
    }
    UNROLL
    for (int i = 0; i < ROWS; i++)
        UNROLL
        for (int v = 0; v < vectors; v++) _mm512_storeu_ps(out + i * out_stride + v * LANES, sum[i][v]);
}

static void multiply_columns(const uint16_t *left, size_t left_stride, const uint32_t *right, size_t right_stride,
                             int pairs, int columns, float *out, size_t out_stride) {
    for (; columns >= GROUP; columns -= GROUP, right += GROUP, out += GROUP)
        multiply_bfloat16(left, left_stride, right, right_stride, pairs, VECTORS, out, out_stride);
    switch (columns / LANES) {
        case 3: multiply_bfloat16(left, left_stride, right, right_stride, pairs, 3, out, out_stride); break;
        case 2: multiply_bfloat16(left, left_stride, right, right_stride, pairs, 2, out, out_stride); break;
        case 1: multiply_bfloat16(left, left_stride, right, right_stride, pairs, 1, out, out_stride); break;
    }
}

/* e^(score - the largest) of a row as bfloat16, zero beyond the text; returns the sum. */
INLINE float exponentials(float *scores, int tokens, const float *distances, uint16_t *out) {
    const __m512 none = _mm512_set1_ps(-INFINITY);
    const int padded = round_up(tokens, LANES);
    const __mmask16 last = 0xffff >> (padded - tokens);
    __m512 largest = none, sum = _mm512_setzero_ps();
    for (int c = 0; c < padded; c += LANES) {
        const __mmask16 inside = c + LANES < padded ? 0xffff : last;
        __m512 x = _mm512_mask_loadu_ps(none, inside, scores + c);
        if (distances) x = _mm512_mask_add_ps(x, inside, x, _mm512_maskz_loadu_ps(inside, distances + c));
        _mm512_storeu_ps(scores + c, x);
        largest = _mm512_max_ps(largest, x);
    }
    const __m512 top = _mm512_set1_ps(_mm512_reduce_max_ps(largest));
    for (int c = 0; c < padded; c += LANES) {
        const __mmask16 inside = c + LANES < padded ? 0xffff : last;
        __m512 e = _mm512_maskz_mov_ps(inside, exponential(_mm512_sub_ps(_mm512_loadu_ps(scores + c), top)));
        sum = _mm512_add_ps(sum, e);
        store_bfloat16(out + c, e);
    }
    return _mm512_reduce_add_ps(sum);
}

/* Attention of one text (Vaswani et al. 2017), whose rows start at `first`; quantized into `narrow`. */
static void attend(const Model *model, size_t first, int tokens, Scratch *s) {
    const int width = model->hidden, size = width / model->heads, padded = round_up(tokens, LANES);
    const size_t stride = 3 * (size_t)width;
    for (int group = 0; group < width / GROUP; group++) {
        for (int column = 0; column < GROUP; column += size) {
            const int head = (group * GROUP + column) / size;
            const uint16_t *query = s->projected + first * stride + head * size;
            const float *distances = NULL;
            if (model->distances)
                distances = model->distances + head * (2 * (size_t)model->max_tokens - 1) + model->max_tokens - 1;
            arrange(query + width, query + 2 * width, stride, tokens, size, s);
            for (int row = 0; row < tokens; row += ROWS) {
                float tile[ROWS][GROUP], sums[ROWS];
                const int valid = tokens - row < ROWS ? tokens - row : ROWS;
                multiply_columns(query + row * stride, stride, s->keys, padded, size / 2, padded, s->scores, padded);
                for (int i = 0; i < valid; i++)
                    sums[i] = exponentials(s->scores + i * padded, tokens, distances ? distances - row - i : NULL,
                                           s->shares + i * padded);
                multiply_columns(s->shares, padded, s->values, size, padded / 2, size, tile[0], GROUP);
                for (int i = 0; i < valid; i++)
                    for (int c = 0; c < size; c += LANES) {
                        __m512 x = _mm512_mul_ps(_mm512_loadu_ps(tile[i] + c), _mm512_set1_ps(1 / sums[i]));
                        _mm512_storeu_ps(s->attended + (size_t)(row + i) * GROUP + column + c, x);
                    }
            }
        }
        for (int row = 0; row < tokens; row++) {
            __m512 x[VECTORS];
            UNROLL
            for (int v = 0; v < VECTORS; v++) x[v] = _mm512_loadu_ps(s->attended + (size_t)row * GROUP + v * LANES);
            quantize(&s->narrow, first + row, group, x);
        }
    }
}

static char *carve(char **at, size_t bytes) {
    char *here = *at;
    *at += (bytes + 63) / 64 * 64;
    return here;
}

/* Lay out the scratch from `start` on, for so many tokens of which a text has at most `longest`; returns its size. */
static size_t lay_out(const Model *model, size_t tokens, size_t longest, char *start, Scratch *s) {
    const size_t rows = round_up(tokens, ROWS), width = model->hidden, wide = model->intermediate;
    const size_t padded = round_up(longest, LANES), size = width / model->heads;
    char *at = start;
    s->hidden = (float *)carve(&at, rows * width * sizeof(float));
    /* A text's last tile may read rows beyond the last text's. */
    s->projected = (uint16_t *)carve(&at, (rows + ROWS) * 3 * width * sizeof(uint16_t));
    Quantized *all[] = {&s->narrow, &s->wide};
    for (int i = 0; i < 2; i++) {
        all[i]->width = (int)(i ? wide : width);
        all[i]->numbers = (uint8_t *)carve(&at, rows * all[i]->width);
        all[i]->scales = (float *)carve(&at, rows * all[i]->width / GROUP * sizeof(float));
        all[i]->lows = (float *)carve(&at, rows * all[i]->width / GROUP * sizeof(float));
    }
    s->keys = (uint32_t *)carve(&at, size / 2 * padded * sizeof(uint32_t));
    s->values = (uint32_t *)carve(&at, padded / 2 * size * sizeof(uint32_t));
    s->scores = (float *)carve(&at, ROWS * padded * sizeof(float));
    s->shares = (uint16_t *)carve(&at, ROWS * padded * sizeof(uint16_t));
    s->attended = (float *)carve(&at, longest * GROUP * sizeof(float));
    return at - start;
}

/* Bytes of scratch for texts of so many tokens together, none of more than `longest`. */
size_t semsearch_scratch(const Model *model, size_t tokens, size_t longest) {
    Scratch unused;
    return lay_out(model, tokens, longest, NULL, &unused);
}

/* The last hidden states, (tokens, hidden), of texts one after the other; text t has tokens starts[t]..starts[t + 1].
 * They stand at the beginning of `scratch`, which is 64-byte aligned. */
void semsearch_forward(const Model *model, const int32_t *ids, const int32_t *positions, const int32_t *starts, int texts,
                       int longest, char *scratch) {
    Scratch s;
    const int tokens = starts[texts], rows = round_up(tokens, ROWS), width = model->hidden;
    lay_out(model, tokens, longest, scratch, &s);
    embed(model, ids, positions, tokens, rows, &s);
    const Layer *end = model->layer + model->layers;
    for (const Layer *layer = model->layer; layer < end; layer++) {
        /* After the last layer nothing is multiplied any more; its hidden states are quantized for nobody. */
        const Matrix *next = &(layer + 1 < end ? layer + 1 : layer)->query_key_value;
        project(&s.narrow, &layer->query_key_value, s.hidden, rows, 3 * width, s.projected);
        for (int t = 0; t < texts; t++) attend(model, starts[t], starts[t + 1] - starts[t], &s);
        add_product(&s.narrow, &layer->attended, rows, width, s.hidden);
        normalize(s.hidden, rows, model, layer->attended_scale, layer->attended_shift, &layer->up, &s.narrow);
        expand(&s.narrow, &layer->up, s.hidden, rows, &s.wide);
        add_product(&s.wide, &layer->down, rows, width, s.hidden);
        normalize(s.hidden, rows, model, layer->down_scale, layer->down_shift, next, &s.narrow);
    }
}
