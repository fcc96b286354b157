/* The forward pass of a BERT-family encoder in int8.
 *
 * Both sides of a matrix product are quantized in groups of 64 along the inner dimension. A group of a row of
 * activations is x = low + scale * q with q in 0..LEVELS, made anew for every row; a group of a column of weights is
 * w = scale * q with q in -127..127. A group's share of the product is then
 *
 *     sum(x * w) = scale_w * (scale_x * sum(q_x * q_w) + low_x * sum(q_w))
 *
 * where sum(q_x * q_w) is what the processor multiplies as integers, and scale_w * sum(q_w) is known beforehand. A few
 * columns of the hidden states are far larger than the others in every text, and would leave the rest of their group few
 * steps of its scale: what they give is added in float32, and for the integers they are zero (as LLM.int8 does, Dettmers
 * et al. 2022). The residual stream and all that is not a product is in float32.
 *
 * A call takes whole texts, one after the other without padding, and computes each row by itself: a text's result does
 * not depend on what stands beside it. There is no state but the caller's scratch, so threads need no locks.
 *
 * What an instruction set has for it stands in a header of its own.
 */

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

enum {
    GROUP = 64, /* numbers that share a scale; columns of a tile too, so that a tile's row is a group */
    EXACT = 4,  /* inner columns of a matrix that are multiplied in float32 */
    ROWS = 4,   /* rows of a tile */
};

INLINE int round_up(int n, int multiple) { return (n + multiple - 1) / multiple * multiple; }

#ifdef __AVX512BF16__
#include "avx512.h"
#else
#include "avx2.h"
#endif

enum { VECTORS = GROUP / LANES }; /* vectors in a tile's row */

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
    /* Added to a score by the key's place less the query's: (heads, 2 * max_tokens - 1) and 16 more; or NULL. */
    const float *distances;
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
    Number *projected;      /* (3 * hidden / 64, rows, 64): queries, keys, values */
    Quantized narrow, wide; /* of width hidden and intermediate */
    Number *keys, *values;  /* of one head, as right sides of products */
    float *scores;          /* (4, padded tokens) */
    Number *shares;         /* (4, padded tokens): softmax of the scores before division by their sum */
    float *attended;        /* (tokens, 64): what the heads of a group give */
} Scratch;

/* e^x for x <= 0: 2^n by the exponent, the rest by its Taylor series, 1e-6 off at most. */
INLINE Floats exponential(Floats x) {
    x = larger(x, all(-87));
    Floats n = rounded(x * all(1.44269504f));
    Floats r = multiply_add(n, all(-0.69314718f), x);
    Floats y = multiply_add(all(1.0f / 120), r, all(1.0f / 24));
    y = multiply_add(y, r, all(1.0f / 6));
    y = multiply_add(y, r, all(0.5f));
    y = multiply_add(y, r, all(1));
    y = multiply_add(y, r, all(1));
    return times_power_of_two(y, n);
}

/* x * (1 + erf(x / sqrt(2))) / 2 (Hendrycks and Gimpel 2016), 2e-5 off at most: the distribution's odd part as a
 * polynomial fitted by least squares on 4,000 Chebyshev nodes of -4.5..4.5, beyond which it is taken as constant. */
INLINE Floats gelu(Floats x) {
    static const float odd[] = {3.98883790e-01f,  -6.63370490e-02f, 9.83318035e-03f,  -1.12267688e-03f, 9.78710450e-05f,
                                -6.36521963e-06f, 2.95887304e-07f,  -9.19363963e-09f, 1.69727815e-10f,  -1.40004176e-12f};
    const Floats t = larger(smaller(x, all(4.5f)), all(-4.5f)), square = t * t;
    Floats y = all(odd[9]);
    UNROLL
    for (int i = 8; i >= 0; i--) y = multiply_add(y, square, all(odd[i]));
    return x * multiply_add(y, t, all(0.5f));
}

/* Quantize group `group` of row `row`. */
INLINE void quantize(Quantized *to, size_t row, int group, const Floats x[VECTORS]) {
    Floats low = x[0], high = x[0], steps[VECTORS];
    UNROLL
    for (int v = 1; v < VECTORS; v++) {
        low = smaller(low, x[v]);
        high = larger(high, x[v]);
    }
    const float least = smallest_of(low), range = largest_of(high) - least;
    const Floats inverse = all(range > 0 ? LEVELS / range : 0);
    UNROLL
    for (int v = 0; v < VECTORS; v++) steps[v] = (x[v] - all(least)) * inverse;
    store_bytes(to->numbers + row * to->width + group * GROUP, steps);
    const size_t at = row * (to->width / GROUP) + group;
    to->scales[at] = range / LEVELS;
    to->lows[at] = least;
}

/* Add to a tile the product of activations and a matrix: rows from `row` on, columns of one panel. */
INLINE void add_product_tile(const Quantized *a, size_t row, const Matrix *b, size_t panel, float *out, size_t out_stride) {
    const int groups = a->width / GROUP;
    for (int group = 0; group < groups; group++) {
        const uint8_t *numbers = a->numbers + row * a->width + group * GROUP;
        const size_t at = (panel * groups + group) * GROUP;
        const float *row_scales = a->scales + row * groups + group, *row_lows = a->lows + row * groups + group;
        UNROLL
        for (int block = 0; block < VECTORS; block += BLOCK) {
            Ints sum[ROWS][BLOCK];
            dot_group(numbers, a->width, b->weights + at * GROUP + block * LANES * 4, sum);
            UNROLL
            for (int v = 0; v < BLOCK; v++) {
                const int column = (block + v) * LANES;
                const Floats scale = load(b->scales + at + column), total = load(b->sums + at + column);
                UNROLL
                for (int i = 0; i < ROWS; i++) {
                    float *to = out + i * out_stride + column;
                    const Floats y = multiply_add(total, all(row_lows[i * groups]), load(to));
                    store(to, multiply_add(floats(sum[i][v]), scale * all(row_scales[i * groups]), y));
                }
            }
        }
    }
}

/* A tile of the product, its bias added. `exact` is what was quantized, in rows of the same width, for a matrix with
 * exact columns; else NULL. */
INLINE void multiply(const Quantized *a, size_t row, const Matrix *b, size_t panel, const float *exact,
                     float out[ROWS][GROUP]) {
    UNROLL
    for (int v = 0; v < VECTORS; v++) {
        const Floats bias = load(b->bias + panel * GROUP + v * LANES);
        Floats w[EXACT];
        UNROLL
        for (int e = 0; exact && e < EXACT; e++)
            w[e] = load(b->exact_weights + (panel * EXACT + e) * GROUP + v * LANES);
        UNROLL
        for (int i = 0; i < ROWS; i++) {
            Floats y = bias;
            UNROLL
            for (int e = 0; exact && e < EXACT; e++)
                y = multiply_add(w[e], all(exact[(row + i) * a->width + b->exact[e]]), y);
            store(out[i] + v * LANES, y);
        }
    }
    add_product_tile(a, row, b, panel, out[0], GROUP);
}

/* Layer normalization of rows in place (Ba et al. 2016), and their quantization for the product with `next`. */
static void normalize(float *rows, int count, const Model *model, const float *scale, const float *shift,
                      const Matrix *next, Quantized *to) {
    const int width = model->hidden;
    for (int row = 0; row < count; row++) {
        float *x = rows + (size_t)row * width;
        Floats sum = all(0), squares = all(0);
        for (int c = 0; c < width; c += LANES) sum += load(x + c);
        const Floats mean = all(sum_of(sum) / width);
        for (int c = 0; c < width; c += LANES) {
            const Floats d = load(x + c) - mean;
            squares = multiply_add(d, d, squares);
        }
        const Floats inverse = all(1 / sqrtf(sum_of(squares) / width + model->epsilon));
        for (int group = 0; group < width / GROUP; group++) {
            Floats y[VECTORS];
            UNROLL
            for (int v = 0; v < VECTORS; v++) {
                const int c = group * GROUP + v * LANES;
                y[v] = multiply_add((load(x + c) - mean) * inverse, load(scale + c), load(shift + c));
                store(x + c, y[v]);
                y[v] *= load(next->kept + c);
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
        for (int c = 0; c < width; c += LANES) store(x + c, load(word + c) + load(position + c));
    }
    /* Rows that fill up the last tile; what they give is not used. */
    memset(s->hidden + (size_t)tokens * width, 0, (size_t)(rows - tokens) * width * sizeof(float));
    normalize(s->hidden, rows, model, model->embedding_scale, model->embedding_shift,
              &model->layer->query_key_value, &s->narrow);
}

static void project(const Quantized *a, const Matrix *matrix, const float *exact, int rows, int panels, Number *out) {
    for (int panel = 0; panel < panels; panel++)
        for (int row = 0; row < rows; row += ROWS) {
            float tile[ROWS][GROUP];
            multiply(a, row, matrix, panel, exact, tile);
            for (int i = 0; i < ROWS; i++)
                UNROLL
                for (int c = 0; c < GROUP; c += LANES)
                    store_numbers(out + ((size_t)panel * rows + row + i) * GROUP + c, load(tile[i] + c));
        }
}

static void add_product(const Quantized *a, const Matrix *matrix, int rows, int columns, float *hidden) {
    for (int row = 0; row < rows; row++)
        for (int c = 0; c < columns; c += LANES) {
            float *x = hidden + (size_t)row * columns + c;
            store(x, load(x) + load(matrix->bias + c));
        }
    for (int panel = 0; panel < columns / GROUP; panel++)
        for (int row = 0; row < rows; row += ROWS)
            add_product_tile(a, row, matrix, panel, hidden + (size_t)row * columns + panel * GROUP, columns);
}

static void expand(const Quantized *a, const Matrix *matrix, const float *exact, int rows, Quantized *out) {
    for (int panel = 0; panel < out->width / GROUP; panel++)
        for (int row = 0; row < rows; row += ROWS) {
            float tile[ROWS][GROUP];
            multiply(a, row, matrix, panel, exact, tile);
            for (int i = 0; i < ROWS; i++) {
                Floats x[VECTORS];
                UNROLL
                for (int v = 0; v < VECTORS; v++) x[v] = gelu(load(tile[i] + v * LANES));
                quantize(out, row + i, panel, x);
            }
        }
}

/* A tile of an attention's product, of 4 rows and `vectors` vectors of columns; `steps` lanes' numbers deep. */
INLINE void multiply_numbers(const Number *left, size_t left_stride, const Number *right, size_t right_stride, int steps,
                             const int vectors, float *out, size_t out_stride) {
    Floats sum[ROWS][BLOCK];
    UNROLL
    for (int i = 0; i < ROWS; i++)
        UNROLL
        for (int v = 0; v < vectors; v++) sum[i][v] = all(0);
    for (int k = 0; k < steps; k++, left += PACKED, right += right_stride) {
        Numbers b[BLOCK];
        UNROLL
        for (int v = 0; v < vectors; v++) b[v] = load_numbers(right + v * LANES * PACKED);
        UNROLL
        for (int i = 0; i < ROWS; i++) {
            const Numbers a = broadcast_numbers(left + i * left_stride);
            UNROLL
            for (int v = 0; v < vectors; v++) sum[i][v] = dot_numbers(sum[i][v], a, b[v]);
        }
    }
    UNROLL
    for (int i = 0; i < ROWS; i++)
        UNROLL
        for (int v = 0; v < vectors; v++) store(out + i * out_stride + v * LANES, sum[i][v]);
}

static void multiply_columns(const Number *left, size_t left_stride, const Number *right, size_t right_stride, int steps,
                             int columns, float *out, size_t out_stride) {
    const int whole = BLOCK * LANES;
    for (; columns >= whole; columns -= whole, right += whole * PACKED, out += whole)
        multiply_numbers(left, left_stride, right, right_stride, steps, BLOCK, out, out_stride);
    switch (columns / LANES) {
#if BLOCK > 2
        case 3: multiply_numbers(left, left_stride, right, right_stride, steps, 3, out, out_stride); break;
        case 2: multiply_numbers(left, left_stride, right, right_stride, steps, 2, out, out_stride); break;
#endif
        case 1: multiply_numbers(left, left_stride, right, right_stride, steps, 1, out, out_stride); break;
    }
}

/* e^(score - the largest) of a row, next to nothing beyond the text; returns the sum. */
INLINE float exponentials(float *scores, int tokens, const float *distances, Number *out) {
    const int padded = round_up(tokens, LANES);
    for (int c = tokens; c < padded; c++) scores[c] = -INFINITY;
    Floats largest = all(-INFINITY), sum = all(0);
    for (int c = 0; c < padded; c += LANES) {
        Floats x = load(scores + c);
        if (distances) store(scores + c, x += load(distances + c));
        largest = larger(largest, x);
    }
    const Floats top = all(largest_of(largest));
    for (int c = 0; c < padded; c += LANES) {
        const Floats e = exponential(load(scores + c) - top);
        sum += e;
        store_numbers(out + c, e);
    }
    return sum_of(sum);
}

/* Attention of one text (Vaswani et al. 2017), whose rows start at `first` of all; quantized into `narrow`. */
static void attend(const Model *model, size_t first, int tokens, int rows, Scratch *s) {
    const int width = model->hidden, size = width / model->heads, padded = round_up(tokens, LANES);
    const size_t all_heads = (size_t)rows * width;
    for (int group = 0; group < width / GROUP; group++) {
        for (int column = 0; column < GROUP; column += size) {
            const int head = (group * GROUP + column) / size;
            const Number *query = s->projected + (group * (size_t)rows + first) * GROUP + column;
            const float *distances = NULL;
            if (model->distances)
                distances = model->distances + head * (2 * (size_t)model->max_tokens - 1) + model->max_tokens - 1;
            arrange(query + all_heads, query + 2 * all_heads, GROUP, tokens, size, s->keys, s->values);
            for (int row = 0; row < tokens; row += ROWS) {
                float tile[ROWS][GROUP], sums[ROWS];
                const int valid = tokens - row < ROWS ? tokens - row : ROWS;
                multiply_columns(query + row * GROUP, GROUP, s->keys, padded * PACKED, size / PACKED, padded, s->scores,
                                 padded);
                for (int i = 0; i < valid; i++)
                    sums[i] = exponentials(s->scores + i * padded, tokens, distances ? distances - row - i : NULL,
                                           s->shares + i * padded);
                multiply_columns(s->shares, padded, s->values, size * PACKED, round_up(tokens, PACKED) / PACKED, size,
                                 tile[0], GROUP);
                for (int i = 0; i < valid; i++)
                    for (int c = 0; c < size; c += LANES)
                        store(s->attended + (size_t)(row + i) * GROUP + column + c, load(tile[i] + c) * all(1 / sums[i]));
            }
        }
        for (int row = 0; row < tokens; row++) {
            Floats x[VECTORS];
            UNROLL
            for (int v = 0; v < VECTORS; v++) x[v] = load(s->attended + (size_t)row * GROUP + v * LANES);
            quantize(&s->narrow, first + row, group, x);
        }
    }
}

static void *carve(char **at, size_t bytes) {
    char *here = *at;
    *at += (bytes + 63) / 64 * 64;
    return here;
}

/* Lay out the scratch from `start` on, for so many tokens of which a text has at most `longest`; returns its size. */
static size_t lay_out(const Model *model, size_t tokens, size_t longest, char *start, Scratch *s) {
    const size_t rows = round_up(tokens, ROWS), width = model->hidden, wide = model->intermediate;
    const size_t padded = round_up(longest, LANES), size = width / model->heads;
    char *at = start;
    s->hidden = carve(&at, rows * width * sizeof(float));
    s->projected = carve(&at, rows * 3 * width * sizeof(Number));
    Quantized *all[] = {&s->narrow, &s->wide};
    for (int i = 0; i < 2; i++) {
        all[i]->width = (int)(i ? wide : width);
        all[i]->numbers = carve(&at, rows * all[i]->width);
        all[i]->scales = carve(&at, rows * all[i]->width / GROUP * sizeof(float));
        all[i]->lows = carve(&at, rows * all[i]->width / GROUP * sizeof(float));
    }
    s->keys = carve(&at, size * padded * sizeof(Number));
    s->values = carve(&at, size * padded * sizeof(Number));
    s->scores = carve(&at, ROWS * padded * sizeof(float));
    s->shares = carve(&at, ROWS * padded * sizeof(Number));
    s->attended = carve(&at, longest * GROUP * sizeof(float));
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
        project(&s.narrow, &layer->query_key_value, s.hidden, rows, 3 * width / GROUP, s.projected);
        for (int t = 0; t < texts; t++) attend(model, starts[t], starts[t + 1] - starts[t], rows, &s);
        add_product(&s.narrow, &layer->attended, rows, width, s.hidden);
        normalize(s.hidden, rows, model, layer->attended_scale, layer->attended_shift, &layer->up, &s.narrow);
        expand(&s.narrow, &layer->up, s.hidden, rows, &s.wide);
        add_product(&s.wide, &layer->down, rows, width, s.hidden);
        normalize(s.hidden, rows, model, layer->down_scale, layer->down_shift, next, &s.narrow);
    }
}
