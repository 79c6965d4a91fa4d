/* The run-major kernel: one run after another, each through its whole training, on non-zero inputs
   and chosen experts alone. kernel.py is its only caller.

   Axes: B batch, D inputs, E experts, K chosen, H hidden, C classes; a slot is one of the B·K pairs
   of an image and an expert that it chose. Every row of weights is padded with zeros to whole
   vectors of LANES numbers: EV, HV and CV are the vectors in a row of E, H and C numbers.

   State: three arrays of one layout, the weights and Adam's first and second moments:
       router (D, RV): EV of logits and, where noise is trained, EV of its
       experts (E), each: b1 (HV), W2 (H, CV), b2 (CV), W1 (D, HV)
   Inputs are numbered by how many training images have them, most first, so that the busy rows lie
   together. Rows that never had a gradient are at the end, behind `reach`: their moments are 0 and
   Adam would leave them as they are, so it passes them by.

   Plain C with vector extensions, for GCC and clang. The file includes itself, and router.c with what
   differs between recipes, once for each instruction set, with LEVEL its name and LANES the width of its vectors. Nothing here allocates
   or keeps state of its own, and the clock decides only when to return for a while, never what is
   computed. */

#ifndef LEVEL

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#define INLINE static inline __attribute__((always_inline))

enum { /* recipes, in the order of kernel.py */
    BLOG, LOGITS, SWITCH, SHAZEER, GSHARD, MIXTRAL, LOSS_FREE, DEEPSEEK_V3, SHARED_EXPERT, TOP_P,
    RANDOM, DENSE_ACTIVE, DENSE_TOTAL
};
#define LEAST_NOISE_STD 0.01f /* of shazeer, as in gating.py */
#define ENTROPY 0.01          /* of top-p: the weight of the entropy over that of the balance */
enum { UNROLL = 4 };           /* the length of every list is a multiple of it */
enum { BLOCK = 64 };           /* lists are copied in blocks: that much more of them is readable */
enum { MOST = 1024 };          /* experts, and classes */
enum { CACHE_LINE = 64 };

/* Images as lists of their non-zero inputs: a few zeros that stand for the first of them, so that
   the list is a multiple of UNROLL long, then each in ascending order. The inputs are in `grey`,
   which counts in 255ths, or if that is NULL in `value`. */
typedef struct {
    const uint16_t *index;
    const uint8_t *grey;
    const float *value;
    const int64_t *offset; /* where each image's list begins, and the end of the last */
    const int32_t *label;
} Images;

/* A run: what it is, its state, and memory to work in, which starts as zeros. */
typedef struct {
    int64_t inputs, experts, chosen, hidden, classes, batch, recipe;
    int64_t noise;       /* 1: the router has a second part, for the spread of the noise */
    int64_t draws_apart; /* of an expert's random numbers of an epoch from the next expert's */
    int64_t longest;  /* list of an image */
    int64_t capacity; /* slots that an expert takes of a batch; negative: all */
    double loss_coef, z_loss, learning_rate;
    double knob, bias_step;
    int64_t steps; /* taken so far */
    float *weights, *first, *second;
    float *bias; /* (EV) for selection */
    int64_t *reach; /* of the router, then of each expert, in vectors; 0: never had a gradient */
    char *scratch;
    double *seconds; /* NULL, or where to add the time of the products and of Adam */
} Run;

/* Added up over steps (router_grad_norm_max: the largest). */
typedef struct {
    double network_loss, gate_loss, accuracy, router_grad_norm, router_grad_norm_max, dropped;
} Sums;

/* One image of the batch. */
typedef struct {
    const uint16_t *index;
    const float *value;
    int64_t length;
} List;

/* What a softmax divided by: the largest number x, and Σ exp(x - largest). */
typedef struct {
    float largest, sum;
} Softmax;

/* What dispatch did with the slots. */
typedef struct {
    int64_t wanted, dropped;
} Slots;

static float log_sum_exp(Softmax of) { return of.largest + logf(of.sum); }

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *take(char **at, int64_t count, size_t size) {
    void *taken = *at;
    *at += (count * (int64_t)size + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    return taken;
}

/* Moments that fade away must not cost a hundred cycles each: while a function of ours runs, its
   thread takes numbers below 1e-38 for 0. */
#ifdef __SSE2__
static unsigned flush_denormals(void) {
    unsigned before = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(before | 0x8040);
    return before;
}
static void restore(unsigned before) { __builtin_ia32_ldmxcsr(before); }
#else
static unsigned flush_denormals(void) { return 0; }
static void restore(unsigned before) { (void)before; }
#endif

/* The names that each instruction set has for its own. */
#define JOIN(name, level) name##_##level
#define JOINED(name, level) JOIN(name, level)
#define OF(name) JOINED(name, LEVEL)
#define vec OF(vec)
#define ints OF(ints)
#define unsigneds OF(unsigneds)
#define Sizes OF(Sizes)
#define Expert OF(Expert)
#define Scratch OF(Scratch)
#define vectors OF(vectors)
#define expert_vectors OF(expert_vectors)
#define expert_at OF(expert_at)
#define lay_out OF(lay_out)
#define list_of OF(list_of)
#define select OF(select)
#define places OF(places)
#define total OF(total)
#define larger OF(larger)
#define largest OF(largest)
#define exponential OF(exponential)
#define softmax OF(softmax)
#define gather OF(gather)
#define gather_width OF(gather_width)
#define scatter OF(scatter)
#define scatter_width OF(scatter_width)
#define collect OF(collect)
#define is_dense OF(is_dense)
#define has_bias OF(has_bias)
#define is_over_chosen OF(is_over_chosen)
#define has_two_softmaxes OF(has_two_softmaxes)
#define has_switch_loss OF(has_switch_loss)
#define router_learns OF(router_learns)
#define absolute OF(absolute)
#define log_1_plus OF(log_1_plus)
#define normal_distribution OF(normal_distribution)
#define score OF(score)
#define best_of OF(best_of)
#define normalise_sigmoids OF(normalise_sigmoids)
#define route OF(route)
#define dispatch OF(dispatch)
#define apply_experts OF(apply_experts)
#define mix OF(mix)
#define is_first OF(is_first)
#define differentiate OF(differentiate)
#define adam OF(adam)
#define train_experts OF(train_experts)
#define balance OF(balance)
#define margins OF(margins)
#define expected_load OF(expected_load)
#define mean_entropy OF(mean_entropy)
#define through_softmax OF(through_softmax)
#define through_noise OF(through_noise)
#define train_router OF(train_router)
#define move_bias OF(move_bias)
#define step_of OF(step_of)
#define step OF(step)
#define classify_of OF(classify_of)
#define classify OF(classify)
#define scratch_bytes OF(scratch_bytes)

#ifdef __x86_64__
#ifdef __clang__
#define TARGET_AVX512 _Pragma("clang attribute push(__attribute__((target(\"avx512f,avx512vl,avx512dq,avx512bw,avx2,fma\"))), apply_to = function)")
#define TARGET_AVX2 _Pragma("clang attribute push(__attribute__((target(\"avx2,fma\"))), apply_to = function)")
#define TARGET_END _Pragma("clang attribute pop")
#else
#define TARGET_AVX512 _Pragma("GCC push_options") _Pragma("GCC target(\"avx512f,avx512vl,avx512dq,avx512bw,avx2,fma,prefer-vector-width=512\")")
#define TARGET_AVX2 _Pragma("GCC push_options") _Pragma("GCC target(\"avx2,fma\")")
#define TARGET_END _Pragma("GCC pop_options")
#endif
#define LEVEL avx512
#define LANES 16
TARGET_AVX512
#include "kernel.c"
TARGET_END
#undef LEVEL
#undef LANES
#define LEVEL avx2
#define LANES 8
TARGET_AVX2
#include "kernel.c"
TARGET_END
#undef LEVEL
#undef LANES
#endif
#define LEVEL baseline
#define LANES 4
#include "kernel.c"
#undef LEVEL
#undef LANES

#undef step
#undef classify
#undef scratch_bytes

/* --- what Python calls */

/* Which source this was made of: its SHA-256, from setup.py. */
#ifndef SOURCE
#define SOURCE ""
#endif
#ifndef FLAGS
#define FLAGS ""
#endif
const char *moe_source(void) { return SOURCE; }
const char *moe_build(void) { return __VERSION__ " " FLAGS; }
/* kernel.py mirrors these structs and compares their sizes. */
int64_t moe_sizeof_run(void) { return sizeof(Run); }
int64_t moe_sizeof_sums(void) { return sizeof(Sums); }

typedef struct {
    int lanes;
    void (*step)(Run *, const Images *, const int64_t *, const float *, Sums *);
    int64_t (*classify)(const Run *, const Images *, int64_t, int64_t, double *);
    int64_t (*scratch_bytes)(const Run *);
} Level;

static const Level LEVELS[] = {
    {4, step_baseline, classify_baseline, scratch_bytes_baseline},
#ifdef __x86_64__
    {8, step_avx2, classify_avx2, scratch_bytes_avx2},
    {16, step_avx512, classify_avx512, scratch_bytes_avx512},
#endif
};

/* The best level that this machine has: 0 baseline, 1 AVX2, 2 AVX-512. */
int moe_best_level(void) {
#ifdef __x86_64__
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return 0;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw"))
        return 2;
    return 1;
#else
    return 0;
#endif
}

int moe_lanes(int level) { return LEVELS[level].lanes; }

int64_t moe_scratch_bytes(int level, const Run *run) { return LEVELS[level].scratch_bytes(run); }

/* Takes steps from … to - 1 of an epoch whose images come in `order`, and adds to sums. Returns the
   step that it reached, sooner than `to` if `slice` seconds are over. draws: the epoch's random
   numbers (E, steps, B), or NULL for recipes without them. */
int64_t moe_train(int level, Run *run, const Images *images, const int64_t *order,
                  const float *draws, int64_t from, int64_t to, double slice, Sums *sums) {
    unsigned mode = flush_denormals();
    double begin = now();
    do {
        int64_t at = run->batch * from;
        LEVELS[level].step(run, images, order + at, draws ? draws + at : NULL, sums);
    } while (++from < to && now() - begin < slice);
    restore(mode);
    return from;
}

/* Classifies images from … to - 1; adds how many are right to *correct, and how often each expert
   was chosen to tokens. Returns the image that it reached, like moe_train. */
int64_t moe_test(int level, const Run *run, const Images *images, int64_t from, int64_t to,
                 double slice, int64_t *correct, double *tokens) {
    unsigned mode = flush_denormals();
    double begin = now();
    do {
        int64_t count = to - from < run->batch ? to - from : run->batch;
        *correct += LEVELS[level].classify(run, images, from, count, tokens);
        from += count;
    } while (from < to && now() - begin < slice);
    restore(mode);
    return from;
}

#else /* LEVEL: from here on, once for each instruction set */

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t ints __attribute__((vector_size(4 * LANES)));
typedef uint32_t unsigneds __attribute__((vector_size(4 * LANES)));

/* The axes that are compiled in where they are known. */
typedef struct {
    int64_t H, C, EV, RV, HV, CV;
} Sizes;

typedef struct {
    vec *b1, *W2, *b2, *W1;
} Expert;

/* What a step works in, one after another in the scratch memory. */
typedef struct {
    vec *grad;          /* of one expert or of the router; zero between uses */
    vec *W2t;           /* (C, HV) of one expert */
    uint16_t *index;    /* the batch's lists */
    float *value;       /* likewise */
    int64_t *start;     /* (B + 1) of each list */
    int64_t *rows;      /* (B) how many rows each list reaches */
    int32_t *label;     /* (B) */
    vec *probs;         /* (B, EV) of the experts that the gates' softmax is over */
    vec *scores;        /* (B, EV) what else a recipe has of each expert: router.c */
    vec *raw;           /* (B, RV) what the router gave, where that is needed later */
    vec *draws;         /* (B, EV) random numbers */
    int32_t *next;      /* (B) the best expert that is not chosen */
    float *entropy;     /* (B) */
    Softmax *of_logits; /* (B) */
    Softmax *of_mixture; /* (B) */
    int32_t *expert;    /* (B, K) best first; E where the slot was refused or dropped */
    float *gate;        /* (B, K) */
    float *d_gate;      /* (B, K) */
    int64_t *tokens;    /* (E) slots of each expert, dropped ones included */
    int64_t *firsts;    /* (E) likewise, of first choices */
    int64_t *of_expert; /* (E + 3) where the slots of each expert begin in `slots` */
    int64_t *slots;     /* (B·K) */
    vec *hidden;        /* (B·K, HV) */
    vec *out;           /* (B·K, CV) what the expert hands on; later the gradient of its logits */
} Scratch;

INLINE int64_t vectors(int64_t numbers) { return (numbers + LANES - 1) / LANES; }

INLINE int64_t expert_vectors(const Run *run, Sizes z) {
    return z.HV + z.H * z.CV + z.CV + run->inputs * z.HV;
}

INLINE Expert expert_at(vec *at, Sizes z) {
    vec *W2 = at + z.HV, *b2 = W2 + z.H * z.CV;
    return (Expert){at, W2, b2, b2 + z.CV};
}

/* Returns the size in bytes. */
INLINE int64_t lay_out(const Run *run, Sizes z, Scratch *s) {
    int64_t B = run->batch, E = run->experts, slots = B * run->chosen;
    int64_t router = run->inputs * z.RV, expert = expert_vectors(run, z);
    int64_t lists = B * run->longest + BLOCK;
    char *at = run->scratch;
    s->grad = take(&at, router > expert ? router : expert, sizeof(vec));
    s->W2t = take(&at, z.C * z.HV, sizeof(vec));
    s->index = take(&at, lists, sizeof *s->index);
    s->value = take(&at, lists, sizeof *s->value);
    s->start = take(&at, B + 1, sizeof *s->start);
    s->rows = take(&at, B, sizeof *s->rows);
    s->label = take(&at, B, sizeof *s->label);
    s->probs = take(&at, B * z.EV, sizeof(vec));
    s->scores = take(&at, B * z.EV, sizeof(vec));
    s->raw = take(&at, B * z.RV, sizeof(vec));
    s->draws = take(&at, B * z.EV, sizeof(vec));
    s->next = take(&at, B, sizeof *s->next);
    s->entropy = take(&at, B, sizeof *s->entropy);
    s->of_logits = take(&at, B, sizeof *s->of_logits);
    s->of_mixture = take(&at, B, sizeof *s->of_mixture);
    s->expert = take(&at, slots, sizeof *s->expert);
    s->gate = take(&at, slots, sizeof *s->gate);
    s->d_gate = take(&at, slots, sizeof *s->d_gate);
    s->tokens = take(&at, E, sizeof *s->tokens);
    s->firsts = take(&at, E, sizeof *s->firsts);
    s->of_expert = take(&at, E + 3, sizeof *s->of_expert);
    s->slots = take(&at, slots, sizeof *s->slots);
    s->hidden = take(&at, slots * z.HV, sizeof(vec));
    s->out = take(&at, slots * z.CV, sizeof(vec));
    return at - run->scratch;
}

INLINE List list_of(const Scratch *s, int64_t b) {
    return (List){s->index + s->start[b], s->value + s->start[b], s->start[b + 1] - s->start[b]};
}

/* --- vectors */

INLINE vec select(ints mask, vec yes, vec no) {
    return (vec)((mask & (ints)yes) | (~mask & (ints)no));
}

/* The places of vector j's lanes in its row. */
INLINE ints places(int64_t j) {
    ints lane;
    for (int32_t i = 0; i < LANES; i++) lane[i] = i;
    return lane + (int32_t)(LANES * j);
}

/* Lane i of the result is lane i ^ n of a. */
#if LANES == 16
#define LANES_XOR(n) LANES_XOR_8(n), 8 ^ n, 9 ^ n, 10 ^ n, 11 ^ n, 12 ^ n, 13 ^ n, 14 ^ n, 15 ^ n
#elif LANES == 8
#define LANES_XOR(n) LANES_XOR_8(n)
#else
#define LANES_XOR(n) LANES_XOR_4(n)
#endif
#define LANES_XOR_4(n) 0 ^ n, 1 ^ n, 2 ^ n, 3 ^ n
#define LANES_XOR_8(n) LANES_XOR_4(n), 4 ^ n, 5 ^ n, 6 ^ n, 7 ^ n
#ifdef __clang__
#define SWAPPED(a, n) __builtin_shufflevector(a, a, LANES_XOR(n))
#else
#define SWAPPED(a, n) __builtin_shuffle(a, (ints){LANES_XOR(n)})
#endif

/* The sum of all lanes, in all lanes. */
INLINE vec total(vec a) {
#if LANES == 16
    a += SWAPPED(a, 8);
#endif
#if LANES >= 8
    a += SWAPPED(a, 4);
#endif
    a += SWAPPED(a, 2);
    return a + SWAPPED(a, 1);
}

INLINE vec larger(vec a, vec b) { return select(a > b, a, b); }

/* The largest lane, in all lanes. */
INLINE vec largest(vec a) {
#if LANES == 16
    a = larger(a, SWAPPED(a, 8));
#endif
#if LANES >= 8
    a = larger(a, SWAPPED(a, 4));
#endif
    a = larger(a, SWAPPED(a, 2));
    return larger(a, SWAPPED(a, 1));
}

/* exp(x) for x <= 0, to two units in the last place (the polynomial of Cephes' expf). */
INLINE vec exponential(vec x) {
    const float magic = 12582912.f; /* 1.5 · 2^23: adding it rounds to an integer */
    x = select(x > -87.f, x, (vec){0} - 87.f);
    vec shifted = x * 1.44269504f + magic, n = shifted - magic;
    vec r = x - n * 0.693359375f + n * 2.12194440e-4f;
    vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.f;
    return (vec)((unsigneds)p + ((unsigneds)shifted << 23));
}

/* Softmax of the first n numbers of a row, 0 behind them. */
INLINE Softmax softmax(const vec *row, vec *probs, int64_t n, int64_t V) {
    vec most = (vec){0} - FLT_MAX, sum = {0};
    for (int64_t j = 0; j < V; j++)
        most = select((row[j] > most) & (places(j) < (int32_t)n), row[j], most);
    most = largest(most);
    for (int64_t j = 0; j < V; j++) {
        probs[j] = (vec)((ints)exponential(row[j] - most) & (places(j) < (int32_t)n));
        sum += probs[j];
    }
    sum = total(sum);
    for (int64_t j = 0; j < V; j++) probs[j] /= sum;
    return (Softmax){most[0], sum[0]};
}

/* --- the sparse products */

/* to += Σ value · row; rows are `stride` vectors apart. */
INLINE void gather_width(vec *to, const vec *rows, int64_t stride, List x, const int width) {
    enum { WIDTHS = 4 };
    const int chains = width > 2 ? 2 : UNROLL; /* enough to hide latency, few enough to keep */
    vec sums[UNROLL][WIDTHS];
    for (int c = 0; c < chains; c++)
        for (int w = 0; w < width; w++) sums[c][w] = c ? (vec){0} : to[w];
    for (int64_t t = 0; t < x.length; t += UNROLL)
        for (int u = 0; u < UNROLL; u++)
            for (int w = 0; w < width; w++)
                sums[u % chains][w] += x.value[t + u] * rows[x.index[t + u] * stride + w];
    for (int w = 0; w < width; w++) {
        vec sum = sums[0][w] + sums[1][w];
        to[w] = chains > 2 ? sum + (sums[2][w] + sums[3][w]) : sum;
    }
}

INLINE void gather(vec *to, const vec *rows, int64_t V, List x) {
    for (int64_t j = 0; j < V; j += 4) switch (V - j) {
            case 1: gather_width(to + j, rows + j, V, x, 1); break;
            case 2: gather_width(to + j, rows + j, V, x, 2); break;
            case 3: gather_width(to + j, rows + j, V, x, 3); break;
            default: gather_width(to + j, rows + j, V, x, 4);
        }
}

/* row += value · d, for each row of the list. UNROLL rows are read before any of them is written:
   none has to wait for another's writing. A row that is among them twice is the list's first, whose
   value comes last, after the zeros that stand for it. */
INLINE void scatter_width(const vec *d, vec *rows, int64_t stride, List x, const int width) {
    enum { WIDTHS = 4 };
    for (int64_t t = 0; t < x.length; t += UNROLL) {
        vec sums[UNROLL][WIDTHS];
        for (int u = 0; u < UNROLL; u++)
            for (int w = 0; w < width; w++)
                sums[u][w] = rows[x.index[t + u] * stride + w] + x.value[t + u] * d[w];
        for (int u = 0; u < UNROLL; u++)
            for (int w = 0; w < width; w++) rows[x.index[t + u] * stride + w] = sums[u][w];
    }
}

INLINE void scatter(const vec *d, vec *rows, int64_t V, List x) {
    for (int64_t j = 0; j < V; j += 4) switch (V - j) {
            case 1: scatter_width(d + j, rows + j, V, x, 1); break;
            case 2: scatter_width(d + j, rows + j, V, x, 2); break;
            case 3: scatter_width(d + j, rows + j, V, x, 3); break;
            default: scatter_width(d + j, rows + j, V, x, 4);
        }
}

/* --- forward */

/* Copies the lists of n images, so that what a step reads lies together. */
INLINE void collect(const Images *images, const int64_t *order, int64_t from, int64_t n,
                    Scratch *s) {
    enum { AHEAD = 6 };
    int64_t at = 0;
    for (int64_t b = 0; b < n; b++) {
        if (b + AHEAD < n) {
            int64_t i = order ? order[b + AHEAD] : from + b + AHEAD;
            int64_t begin = images->offset[i], end = images->offset[i + 1];
            for (int64_t t = begin; t < end && images->grey; t += CACHE_LINE)
                __builtin_prefetch(images->grey + t);
            for (int64_t t = begin; t < end; t += CACHE_LINE / 2)
                __builtin_prefetch(images->index + t);
        }
        int64_t i = order ? order[b] : from + b;
        const uint16_t *index = images->index + images->offset[i];
        const uint8_t *grey = images->grey ? images->grey + images->offset[i] : NULL;
        const float *value = images->grey ? NULL : images->value + images->offset[i];
        int64_t length = images->offset[i + 1] - images->offset[i];
        s->start[b] = at;
        s->rows[b] = length ? index[length - 1] + 1 : 0;
        s->label[b] = images->label[i];
        for (int64_t t = 0; t < length; t += BLOCK) {
            memcpy(s->index + at + t, index + t, sizeof *index * BLOCK);
            if (grey)
                for (int64_t u = t; u < t + BLOCK; u++) s->value[at + u] = grey[u] / 255.f;
            else
                memcpy(s->value + at + t, value + t, sizeof *value * BLOCK);
        }
        at += length;
    }
    s->start[n] = at;
}

/* Sorts the slots by expert. Beyond the capacity slots are dropped: second choices before first
   ones, and the last of the batch before its first. */
INLINE Slots dispatch(const Run *run, int64_t n, int64_t capacity, Scratch *s) {
    int64_t E = run->experts, K = run->chosen, *begin = s->of_expert;
    Slots slots = {0, 0};
    memset(s->tokens, 0, sizeof *s->tokens * (size_t)E);
    for (int64_t k = 0; k < K; k++) {
        for (int64_t slot = k; slot < n * K; slot += K) {
            if (s->expert[slot] == E) continue;
            slots.wanted++;
            if (s->tokens[s->expert[slot]]++ >= capacity && capacity >= 0) {
                s->expert[slot] = (int32_t)E;
                slots.dropped++;
            }
        }
        if (k == 0) memcpy(s->firsts, s->tokens, sizeof *s->tokens * (size_t)E);
    }
    memset(begin, 0, sizeof *begin * (size_t)(E + 3));
    for (int64_t slot = 0; slot < n * K; slot++) begin[s->expert[slot] + 2]++;
    for (int64_t e = 2; e < E + 2; e++) begin[e + 1] += begin[e];
    for (int64_t slot = 0; slot < n * K; slot++) s->slots[begin[s->expert[slot] + 1]++] = slot;
    return slots;
}

/* What each slot's expert hands on. */
INLINE void apply_experts(const Run *run, Sizes z, Scratch *s) {
    vec *at = (vec *)run->weights + run->inputs * z.RV;
    for (int64_t e = 0; e < run->experts; e++, at += expert_vectors(run, z)) {
        Expert expert = expert_at(at, z);
        for (int64_t i = s->of_expert[e]; i < s->of_expert[e + 1]; i++) {
            vec *hidden = s->hidden + s->slots[i] * z.HV;
            for (int64_t j = 0; j < z.HV; j++) hidden[j] = expert.b1[j];
            gather(hidden, expert.W1, z.HV, list_of(s, s->slots[i] / run->chosen));
        }
        /* A loop of its own: what follows is short, and waits less beside the next slot's. */
        for (int64_t i = s->of_expert[e]; i < s->of_expert[e + 1]; i++) {
            vec *hidden = s->hidden + s->slots[i] * z.HV, *out = s->out + s->slots[i] * z.CV;
            for (int64_t j = 0; j < z.HV; j++)
                hidden[j] = (vec)((ints)hidden[j] & (hidden[j] > 0.f));
            for (int64_t j = 0; j < z.CV; j++) {
                vec sum = expert.b2[j];
                for (int64_t u = 0; u < z.H; u++)
                    sum += ((const float *)hidden)[u] * expert.W2[u * z.CV + j];
                out[j] = sum;
            }
            if (run->recipe == BLOG) softmax(out, out, z.C, z.CV);
        }
    }
}

INLINE void mix(const Run *run, Sizes z, const Scratch *s, int64_t b, vec *mixture) {
    for (int64_t j = 0; j < z.CV; j++) mixture[j] = (vec){0};
    for (int64_t slot = b * run->chosen; slot < (b + 1) * run->chosen; slot++)
        if (s->expert[slot] < run->experts)
            for (int64_t j = 0; j < z.CV; j++)
                mixture[j] += s->gate[slot] * s->out[slot * z.CV + j];
}

/* Whether number y is the first of the largest of a row. */
INLINE int is_first(const float *row, int64_t n, int64_t y) {
    int is = 1;
    for (int64_t c = 0; c < n; c++) is &= c < y ? row[c] < row[y] : row[c] <= row[y];
    return is;
}

/* --- backward */

/* From the mixture's cross entropy to the gradients of each slot's gate and expert's logits. */
INLINE void differentiate(const Run *run, Sizes z, int64_t n, Scratch *s, Sums *sums) {
    int64_t K = run->chosen, correct = 0;
    double loss = 0;
    for (int64_t b = 0; b < n; b++) {
        vec mixture[MOST / LANES], d[MOST / LANES];
        int64_t y = s->label[b];
        mix(run, z, s, b, mixture);
        correct += is_first((float *)mixture, z.C, y);
        loss -= ((float *)mixture)[y];
        s->of_mixture[b] = softmax(mixture, d, z.C, z.CV);
        for (int64_t j = 0; j < z.CV; j++) {
            vec one = select(places(j) == (int32_t)y, (vec){0} + 1.f, (vec){0});
            d[j] = (d[j] - one) * (1.f / (float)n);
        }
        for (int64_t slot = b * K; slot < (b + 1) * K; slot++) {
            vec *out = s->out + slot * z.CV;
            float gate = s->gate[slot];
            vec d_gate = {0};
            if (s->expert[slot] == run->experts) continue;
            for (int64_t j = 0; j < z.CV; j++) d_gate += d[j] * out[j];
            d_gate = total(d_gate);
            s->d_gate[slot] = d_gate[0];
            for (int64_t j = 0; j < z.CV; j++)
                out[j] = run->recipe == BLOG ? gate * out[j] * (d[j] - d_gate) : gate * d[j];
        }
    }
    for (int64_t b = 0; b < n; b++) loss += log_sum_exp(s->of_mixture[b]);
    sums->network_loss += loss / (double)n;
    sums->accuracy += (double)correct / (double)n;
}

/* torch.optim.Adam at its defaults; the gradient is 0 afterwards. */
static __attribute__((noinline)) void adam(const Run *run, vec *weights, vec *grad, int64_t V) {
    double begin = run->seconds ? now() : 0, t = (double)run->steps;
    double root = sqrt(1 - pow(0.999, t));
    float rate = (float)(run->learning_rate * root / (1 - pow(0.9, t)));
    float epsilon = (float)(1e-8 * root);
    int64_t at = (float *)weights - run->weights;
    float *restrict p = run->weights + at, *restrict g = (float *)grad;
    float *restrict m = run->first + at, *restrict v = run->second + at;
    for (int64_t i = 0; i < V * LANES; i++) {
        m[i] += 0.1f * (g[i] - m[i]);
        v[i] = 0.999f * v[i] + 0.001f * g[i] * g[i];
        p[i] -= rate * m[i] / (sqrtf(v[i]) + epsilon);
        g[i] = 0;
    }
    if (run->seconds) run->seconds[1] += now() - begin;
}

/* Backward through the experts, Adam included, so that one gradient is alive at a time. */
INLINE void train_experts(const Run *run, Sizes z, Scratch *s) {
    int64_t E = run->experts;
    for (int64_t turn = 0; turn < E; turn++) {
        /* Back and forth, so that a step begins with what the cache still has of the last. */
        int64_t e = run->steps % 2 ? turn : E - 1 - turn, reach = run->reach[1 + e];
        vec *at = (vec *)run->weights + run->inputs * z.RV + e * expert_vectors(run, z);
        Expert expert = expert_at(at, z), d = expert_at(s->grad, z);
        if (s->of_expert[e] < s->of_expert[e + 1])
            for (int64_t c = 0; c < z.C; c++)
                for (int64_t u = 0; u < z.H; u++)
                    ((float *)(s->W2t + c * z.HV))[u] = ((float *)(expert.W2 + u * z.CV))[c];
        for (int64_t i = s->of_expert[e]; i < s->of_expert[e + 1]; i++) {
            vec *hidden = s->hidden + s->slots[i] * z.HV, *d_out = s->out + s->slots[i] * z.CV;
            for (int64_t j = 0; j < z.CV; j++) {
                d.b2[j] += d_out[j];
                for (int64_t u = 0; u < z.H; u++)
                    d.W2[u * z.CV + j] += ((float *)hidden)[u] * d_out[j];
            }
            for (int64_t j = 0; j < z.HV; j++) {
                vec sum = {0};
                for (int64_t c = 0; c < z.C; c++)
                    sum += ((float *)d_out)[c] * s->W2t[c * z.HV + j];
                hidden[j] = (vec)((ints)sum & (hidden[j] > 0.f)); /* now its gradient */
                d.b1[j] += hidden[j];
            }
        }
        for (int64_t i = s->of_expert[e]; i < s->of_expert[e + 1]; i++) {
            int64_t slot = s->slots[i], b = slot / run->chosen;
            scatter(s->hidden + slot * z.HV, d.W1, z.HV, list_of(s, b));
            int64_t reached = expert.W1 - at + s->rows[b] * z.HV;
            reach = reached > reach ? reached : reach;
        }
        run->reach[1 + e] = reach;
        adam(run, at, s->grad, reach);
    }
}

#include "router.c"

/* --- a step, and a test */

/* Forward, backward and Adam for one batch. */
INLINE void step_of(Run *run, Sizes z, const Images *images, const int64_t *batch,
                    const float *draws, Sums *sums) {
    int64_t n = run->batch;
    double begin = run->seconds ? now() : 0, before = run->seconds ? run->seconds[1] : 0;
    vec d_probs[MOST / LANES], d_load[MOST / LANES];
    Scratch s;
    lay_out(run, z, &s);
    run->steps++;
    collect(images, batch, 0, n, &s);
    route(run, z, n, 1, draws, &s);
    Slots slots = dispatch(run, n, run->capacity, &s);
    sums->dropped += (double)slots.dropped / (double)slots.wanted;
    apply_experts(run, z, &s);
    differentiate(run, z, n, &s, sums);
    train_experts(run, z, &s);
    sums->gate_loss += balance(run, z, n, &s, d_probs);
    if (run->recipe == SHAZEER) sums->gate_loss += expected_load(run, z, n, &s, d_load);
    if (run->recipe == TOP_P) sums->gate_loss += ENTROPY * mean_entropy(z, n, &s);
    double norm = train_router(run, z, n, d_probs, d_load, &s);
    if (has_bias(run->recipe)) move_bias(run, &s);
    sums->router_grad_norm += norm;
    if (norm > sums->router_grad_norm_max) sums->router_grad_norm_max = norm;
    if (run->seconds) run->seconds[0] += now() - begin - (run->seconds[1] - before);
}

INLINE int64_t classify_of(const Run *run, Sizes z, const Images *images, int64_t from, int64_t n,
                           double *tokens) {
    int64_t correct = 0;
    Scratch s;
    lay_out(run, z, &s);
    collect(images, NULL, from, n, &s);
    route(run, z, n, 0, NULL, &s);
    dispatch(run, n, -1, &s);
    apply_experts(run, z, &s);
    for (int64_t b = 0; b < n; b++) {
        vec mixture[MOST / LANES];
        mix(run, z, &s, b, mixture);
        correct += is_first((float *)mixture, z.C, s.label[b]);
    }
    for (int64_t e = 0; e < run->experts; e++) tokens[e] += (double)s.tokens[e];
    return correct;
}

/* The common sizes are compiled in: WITH_SIZES(f, …) is f(run, sizes, …). */
#define WITH_SIZES(f, ...)                                                                       \
    const int64_t H = run->hidden, C = run->classes, EV = vectors(run->experts);                 \
    const int64_t TEN = 10, RV = EV + (run->noise ? EV : 0);                                     \
    if (H == TEN && C == TEN && EV == 1 && RV == 1)                                              \
        return f(run, (Sizes){TEN, TEN, 1, 1, vectors(TEN), vectors(TEN)}, __VA_ARGS__);         \
    if (H == TEN && C == TEN)                                                                    \
        return f(run, (Sizes){TEN, TEN, EV, RV, vectors(TEN), vectors(TEN)}, __VA_ARGS__);       \
    return f(run, (Sizes){H, C, EV, RV, vectors(H), vectors(C)}, __VA_ARGS__)

static void step(Run *run, const Images *images, const int64_t *batch, const float *draws,
                 Sums *sums) {
    WITH_SIZES(step_of, images, batch, draws, sums);
}

static int64_t classify(const Run *run, const Images *images, int64_t from, int64_t n,
                        double *tokens) {
    WITH_SIZES(classify_of, images, from, n, tokens);
}

static int64_t scratch_bytes(const Run *run) {
    Scratch s;
    WITH_SIZES(lay_out, &s);
}

#undef WITH_SIZES
#undef LANES_XOR
#undef LANES_XOR_4
#undef LANES_XOR_8
#undef SWAPPED
#endif
