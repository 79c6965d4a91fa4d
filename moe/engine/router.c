/* The router of kernel.c, which includes this file once for each instruction set: which experts each
   image gets and with which gates, the losses that balance them, and the way back to the weights.

   A row of the router's weights has RV vectors: EV of logits and, for `shazeer`, EV of the noise.

   Recipes differ in what they choose by, in the experts that the softmax of the gates is over, and in
   their loss. Gates are a softmax of logits over
       the chosen experts   blog, logits, random, mixtral, gshard, shazeer (noisy logits),
                            deepseek-v3 (logarithms of sigmoids)
       all experts          switch, top-p
       all but the first    shared-expert
   or sigmoids (loss-free), or 1 (the dense controls). The loss is CV² of importance (blog, logits,
   random, shazeer, which adds CV² of the expected load), Σ f·P (switch, mixtral, gshard,
   shared-expert, top-p, which adds the entropy) or 0. The formulas are those of moe/recipes/. */

/* --- what recipes are like */

INLINE int is_dense(int64_t recipe) { return recipe == DENSE_ACTIVE || recipe == DENSE_TOTAL; }

INLINE int has_bias(int64_t recipe) { return recipe == LOSS_FREE || recipe == DEEPSEEK_V3; }

INLINE int is_over_chosen(int64_t recipe) {
    return recipe != SWITCH && recipe != TOP_P && recipe != SHARED_EXPERT && recipe != LOSS_FREE;
}

/* The gates' softmax is over the chosen, that of the loss over all. */
INLINE int has_two_softmaxes(int64_t recipe) { return recipe == MIXTRAL || recipe == GSHARD; }

INLINE int has_switch_loss(int64_t recipe) {
    return has_two_softmaxes(recipe) || recipe == SWITCH || recipe == SHARED_EXPERT ||
           recipe == TOP_P;
}

/* Whether any gradient reaches the router; elsewhere gates are 1, or the router is a control's. */
INLINE int router_learns(const Run *run) {
    switch (run->recipe) {
        case RANDOM:
        case DENSE_ACTIVE:
        case DENSE_TOTAL: return 0;
        case LOSS_FREE: return 1;
        case BLOG:
        case LOGITS:
        case DEEPSEEK_V3: return run->experts > 1 && run->chosen > 1;
        case SHARED_EXPERT: return run->experts > 2;
        default: return run->experts > 1;
    }
}

/* --- functions of a vector */

INLINE vec absolute(vec x) { return larger(x, -x); }

/* log(1 + x) for x in [0, 1] (the polynomial of Cephes' logf, for 1 + x or its half). */
INLINE vec log_1_plus(vec x) {
    ints is_large = x > 0.41421356f;
    vec r = select(is_large, 0.5f * x - 0.5f, x), square = r * r;
    vec p = r * 7.0376836292e-2f - 1.1514610310e-1f;
    p = p * r + 1.1676998740e-1f;
    p = p * r - 1.2420140846e-1f;
    p = p * r + 1.4249322787e-1f;
    p = p * r - 1.6668057665e-1f;
    p = p * r + 2.0000714765e-1f;
    p = p * r - 2.4999993993e-1f;
    p = p * r + 3.3333331174e-1f;
    vec log = r + (r * square * p - 0.5f * square);
    return select(is_large, log + 0.69314718f, log);
}

/* Φ, the standard normal distribution, to 1e-7; bell: exp(-x² / 2) (Abramowitz and Stegun 7.1.26) */
INLINE vec normal_distribution(vec x, vec bell) {
    vec t = 1.f / (1.f + 0.3275911f * 0.70710678f * absolute(x));
    vec p = t * 1.061405429f - 1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t - 0.284496736f;
    p = p * t + 0.254829592f;
    vec tail = 0.5f * p * t * bell;
    return select(x > 0.f, 1.f - tail, tail);
}

/* --- forward */

/* The numbers that an image's experts are chosen by; `none` where there is no expert to choose.
   Prepares what the gates are made of in probs and scores. */
INLINE void score(const Run *run, Sizes z, int64_t b, int training, Scratch *s, vec *by) {
    const vec none = (vec){0} - FLT_MAX;
    vec *logits = s->probs + b * z.EV, *scores = s->scores + b * z.EV;
    const vec *raw = s->raw + b * z.RV, *draws = s->draws + b * z.EV;
    for (int64_t j = 0; j < z.EV; j++) {
        vec value = logits[j];
        if (run->recipe == SHAZEER) { /* scores: the spread of the noise */
            vec noise = raw[z.EV + j];
            scores[j] = larger(noise, (vec){0}) + log_1_plus(exponential(-absolute(noise))) +
                        LEAST_NOISE_STD;
            value = logits[j] = training ? raw[j] + draws[j] * scores[j] : raw[j];
        }
        if (has_bias(run->recipe)) { /* scores: 1 - sigmoid */
            vec e = exponential(-absolute(value)), large = 1.f / (1.f + e), small = e * large;
            vec sigmoid = select(value > 0.f, large, small);
            scores[j] = select(value > 0.f, small, large);
            if (run->recipe == LOSS_FREE) logits[j] = sigmoid;
            value = sigmoid + ((const vec *)run->bias)[j];
        }
        ints can = places(j) < (int32_t)run->experts;
        if (run->recipe == SHARED_EXPERT) can &= places(j) > 0;
        by[j] = select(can, value, none);
    }
}

/* The expert with the largest number, of equals the lowest. */
INLINE int32_t best_of(const vec *left, int64_t E, int64_t V) {
    const vec none = (vec){0} - FLT_MAX;
    vec most = none, first = none; /* first: minus the place of the largest */
    for (int64_t j = 0; j < V; j++) most = larger(left[j], most);
    most = largest(most);
    for (int64_t j = 0; j < V; j++) {
        vec place = __builtin_convertvector(-places(j), vec);
        first = larger(select(left[j] == most, place, none), first);
    }
    float place = -largest(first)[0];
    return place < (float)E ? (int32_t)place : (int32_t)E - 1; /* if all are NaN */
}

/* Softmax of log sigmoid over the experts that are no longer `left`: sigmoids over their sum, also
   where each of them is too small for a float. */
INLINE void normalise_sigmoids(const Run *run, Sizes z, const vec *left, vec *logits) {
    const vec none = (vec){0} - FLT_MAX;
    vec most = none, sum = {0};
    for (int64_t j = 0; j < z.EV; j++) {
        ints is = (left[j] == none) & (places(j) < (int32_t)run->experts);
        most = larger(select(is, -larger(-logits[j], (vec){0}), none), most);
    }
    most = largest(most);
    for (int64_t j = 0; j < z.EV; j++) {
        ints is = (left[j] == none) & (places(j) < (int32_t)run->experts);
        vec low = select(is, -larger(-logits[j], (vec){0}), none);
        vec weight = exponential(low - most) / (1.f + exponential(-absolute(logits[j])));
        logits[j] = (vec)((ints)weight & is);
        sum += logits[j];
    }
    sum = total(sum);
    for (int64_t j = 0; j < z.EV; j++) logits[j] /= sum;
}

/* Each image's experts, best first and of equals the lowest, with their gates. draws: of the batch,
   or NULL for recipes without random numbers. */
INLINE void route(const Run *run, Sizes z, int64_t n, int training, const float *draws,
                  Scratch *s) {
    int64_t E = run->experts, K = run->chosen, shared = run->recipe == SHARED_EXPERT;
    const vec none = (vec){0} - FLT_MAX;
    if (is_dense(run->recipe)) {
        for (int64_t slot = 0; slot < n * K; slot++) {
            s->expert[slot] = (int32_t)(slot % K);
            s->gate[slot] = 1;
        }
        return;
    }
    if (E == 1 && run->z_loss == 0 && run->recipe != LOSS_FREE) { /* there is nothing to choose */
        for (int64_t b = 0; b < n; b++) {
            s->probs[b * z.EV] = s->scores[b * z.EV] = (vec){1};
            s->of_logits[b] = (Softmax){0, 1};
            s->expert[b] = 0;
            s->gate[b] = 1;
        }
        return;
    }
    if (draws)
        for (int64_t b = 0; b < n; b++)
            for (int64_t e = 0; e < E; e++)
                ((float *)(s->draws + b * z.EV))[e] = draws[e * run->draws_apart + b];
    for (int64_t b = 0; b < n; b++) {
        vec *logits = z.RV == z.EV ? s->probs + b * z.EV : s->raw + b * z.RV;
        for (int64_t j = 0; j < z.RV; j++) logits[j] = (vec){0};
        gather(logits, (vec *)run->weights, z.RV, list_of(s, b));
    }
    for (int64_t b = 0; b < n; b++) {
        vec *logits = s->probs + b * z.EV, left[MOST / LANES]; /* left: those not yet chosen */
        int32_t *expert = s->expert + b * K;
        score(run, z, b, training, s, left);
        if (shared) expert[0] = 0;
        for (int64_t k = shared; k < K; k++) {
            int32_t e = expert[k] = best_of(left, E, z.EV);
            for (int64_t j = 0; j < z.EV; j++) left[j] = select(places(j) == e, none, left[j]);
        }
        if (run->recipe == SHAZEER) s->next[b] = best_of(left, E, z.EV);
        if (run->recipe == TOP_P)
            for (int64_t j = 0; j < z.EV; j++) s->raw[b * z.EV + j] = logits[j];
        if (has_two_softmaxes(run->recipe)) softmax(logits, s->scores + b * z.EV, E, z.EV);
        if (is_over_chosen(run->recipe)) /* the others' softmax is over all */
            for (int64_t j = 0; j < z.EV; j++)
                logits[j] = select(left[j] == none, logits[j], none);
        if (shared) logits[0] = select(places(0) == 0, none, logits[0]);
        if (run->recipe == DEEPSEEK_V3)
            normalise_sigmoids(run, z, left, logits);
        else if (run->recipe != LOSS_FREE)
            s->of_logits[b] = softmax(logits, logits, E, z.EV);
        for (int64_t k = 0; k < K; k++) s->gate[b * K + k] = ((const float *)logits)[expert[k]];
        if (shared) s->gate[b * K] = 1;
        if (run->recipe == GSHARD && training) { /* the second expert at random */
            float draw = ((const float *)(s->draws + b * z.EV))[expert[1]];
            if (!(2 * s->gate[b * K + 1] > draw)) expert[1] = (int32_t)E;
        }
        if (run->recipe == TOP_P) { /* no more than are needed */
            float before = 0;
            for (int64_t k = 0; k < K; k++) {
                if (k && before >= (float)run->knob) expert[k] = (int32_t)E;
                before += s->gate[b * K + k];
            }
        }
    }
}

/* --- the losses: each unweighted, their weighted gradients into vectors */

/* Of Σ f·P or of CV² of importance; d_probs: to each image's softmax over the experts. */
INLINE double balance(const Run *run, Sizes z, int64_t n, const Scratch *s, vec *d_probs) {
    int64_t E = run->experts;
    const vec *probs = has_two_softmaxes(run->recipe) ? s->scores : s->probs;
    vec importance[MOST / LANES];
    double loss = 0, sum = 0;
    for (int64_t j = 0; j < z.EV; j++) importance[j] = d_probs[j] = (vec){0};
    if (is_dense(run->recipe) || has_bias(run->recipe)) return 0;
    for (int64_t j = 0; j < z.EV; j++)
        for (int64_t b = 0; b < n; b++) importance[j] += probs[b * z.EV + j];
    const float *x = (float *)importance;
    float *d = (float *)d_probs;
    if (has_switch_loss(run->recipe)) {
        int64_t shared = run->recipe == SHARED_EXPERT, slots = n * (run->chosen - shared);
        const int64_t *counts = run->recipe == GSHARD ? s->firsts : s->tokens;
        if (run->recipe == GSHARD || run->recipe == TOP_P) slots = n;
        for (int64_t e = shared; e < E; e++) {
            double share = (double)counts[e] / (double)slots;
            double weight = (double)(E - shared) * share / (double)n;
            loss += weight * x[e];
            d[e] = (float)(run->loss_coef * weight);
        }
        return loss;
    }
    for (int64_t e = 0; e < E; e++) sum += x[e];
    double mean = sum / (double)E, scale = 1 / ((double)E * mean * mean);
    for (int64_t e = 0; e < E; e++) {
        loss += (x[e] - mean) * (x[e] - mean) * scale;
        /* Without the mean's own part: it is the same for all, and gates sum to 1, so it cancels. */
        d[e] = (float)(run->loss_coef * 2 * (x[e] - mean) * scale);
    }
    return loss;
}

/* Of `shazeer`: where an image's logits stand to those that they have to exceed, in units of the
   noise, which is the largest of the rivals that are not chosen with them. */
INLINE void margins(const Run *run, Sizes z, int64_t b, const Scratch *s, vec *u, vec *is_chosen) {
    int64_t K = run->chosen;
    const vec *raw = s->raw + b * z.RV, *spread = s->scores + b * z.EV, *draws = s->draws + b * z.EV;
    const int32_t *expert = s->expert + b * K;
    int32_t last = expert[K - 1], next = s->next[b];
#define NOISY(e) (((float *)raw)[e] + ((float *)draws)[e] * ((float *)spread)[e])
    float of_others = NOISY(last), of_chosen = NOISY(next);
#undef NOISY
    for (int64_t j = 0; j < z.EV; j++) {
        is_chosen[j] = (vec){0};
        for (int64_t k = 0; k < K; k++)
            is_chosen[j] = select(places(j) == expert[k], (vec){0} + 1.f, is_chosen[j]);
        vec rival = select(is_chosen[j] > 0.f, (vec){0} + of_chosen, (vec){0} + of_others);
        u[j] = (raw[j] - rival) / spread[j];
    }
}

/* CV² of the load that `shazeer` expects under fresh noise; d_load: to each expert's load. */
INLINE double expected_load(const Run *run, Sizes z, int64_t n, const Scratch *s, vec *d_load) {
    int64_t E = run->experts;
    vec load[MOST / LANES];
    for (int64_t j = 0; j < z.EV; j++) load[j] = d_load[j] = (vec){0};
    if (run->chosen == E) return 0; /* each expert gets all */
    for (int64_t b = 0; b < n; b++) {
        vec u[MOST / LANES], is_chosen[MOST / LANES];
        margins(run, z, b, s, u, is_chosen);
        for (int64_t j = 0; j < z.EV; j++)
            load[j] += normal_distribution(u[j], exponential(-0.5f * u[j] * u[j]));
    }
    const float *x = (float *)load;
    double sum = 0, squares = 0, loss = 0;
    for (int64_t e = 0; e < E; e++) sum += x[e];
    double mean = sum / (double)E, scale = 1 / ((double)E * mean * mean);
    for (int64_t e = 0; e < E; e++) {
        loss += (x[e] - mean) * (x[e] - mean) * scale;
        squares += (double)x[e] * x[e] / (double)E;
    }
    for (int64_t e = 0; e < E; e++)
        ((float *)d_load)[e] = (float)(run->loss_coef * 2 * scale * (x[e] - squares / mean));
    return loss;
}

/* The mean entropy of each image's softmax, of `top-p`. */
INLINE double mean_entropy(Sizes z, int64_t n, Scratch *s) {
    double sum = 0;
    for (int64_t b = 0; b < n; b++) {
        vec entropy = {0};
        for (int64_t j = 0; j < z.EV; j++)
            entropy += s->probs[b * z.EV + j] *
                       (log_sum_exp(s->of_logits[b]) - s->raw[b * z.EV + j]);
        s->entropy[b] = total(entropy)[0];
        sum += s->entropy[b];
    }
    return sum / (double)n;
}

/* --- backward */

/* The gradient of an image's logits from that of its gates and of the losses. */
INLINE void through_softmax(const vec *probs, const vec *d_probs, int64_t V, float more, vec *d) {
    vec dot = {0};
    for (int64_t j = 0; j < V; j++) dot += probs[j] * d_probs[j];
    dot = total(dot);
    for (int64_t j = 0; j < V; j++) d[j] = probs[j] * (d_probs[j] - dot + more);
}

/* Of `shazeer`: from noisy logits and load to logits and noise logits, in place. */
INLINE void through_noise(const Run *run, Sizes z, int64_t b, const Scratch *s, const vec *d_load,
                          vec *d) {
    const vec *spread = s->scores + b * z.EV, *draws = s->draws + b * z.EV;
    vec u[MOST / LANES], is_chosen[MOST / LANES], own[MOST / LANES];
    vec of_chosen = {0}, of_others = {0};
    int has_load = run->chosen < run->experts;
    if (has_load) margins(run, z, b, s, u, is_chosen);
    for (int64_t j = 0; j < z.EV && has_load; j++) {
        own[j] = d_load[j] * 0.39894228f * exponential(-0.5f * u[j] * u[j]) / spread[j];
        of_chosen += own[j] * is_chosen[j];
        of_others += own[j] * (1.f - is_chosen[j]);
    }
    if (has_load) {
        ((float *)d)[s->next[b]] -= total(of_chosen)[0];
        ((float *)d)[s->expert[(b + 1) * run->chosen - 1]] -= total(of_others)[0];
    }
    for (int64_t j = 0; j < z.EV; j++) {
        vec of_spread = d[j] * draws[j];
        if (has_load) {
            d[j] += own[j];
            of_spread -= u[j] * own[j];
        }
        /* The slope of softplus is 1 - exp(-softplus). */
        d[z.EV + j] = of_spread * (1.f - exponential(LEAST_NOISE_STD - spread[j]));
    }
}

/* Backward through the router, Adam included. Returns the norm of its gradient, without that of the
   noise. */
INLINE double train_router(const Run *run, Sizes z, int64_t n, const vec *d_probs,
                           const vec *d_load, Scratch *s) {
    int64_t E = run->experts, K = run->chosen, reach = run->reach[0];
    int64_t shared = run->recipe == SHARED_EXPERT;
    if (!router_learns(run) && run->z_loss == 0) return 0;
    for (int64_t b = 0; b < n; b++) {
        const vec *probs = s->probs + b * z.EV, *scores = s->scores + b * z.EV;
        vec d_gates[MOST / LANES], d[2 * (MOST / LANES)];
        float z_part = 0;
        if (run->z_loss != 0)
            z_part = (float)(2 * run->z_loss / (double)n) * log_sum_exp(s->of_logits[b]);
        for (int64_t j = 0; j < z.EV; j++)
            d_gates[j] = has_two_softmaxes(run->recipe) ? (vec){0} : d_probs[j];
        for (int64_t slot = b * K + shared; slot < (b + 1) * K; slot++)
            if (s->expert[slot] < E) ((float *)d_gates)[s->expert[slot]] += s->d_gate[slot];
        if (run->recipe == LOSS_FREE)
            for (int64_t j = 0; j < z.EV; j++) d[j] = d_gates[j] * probs[j] * scores[j];
        else
            through_softmax(probs, d_gates, z.EV, z_part, d);
        if (has_two_softmaxes(run->recipe)) {
            vec more[MOST / LANES];
            through_softmax(scores, d_probs, z.EV, 0, more);
            for (int64_t j = 0; j < z.EV; j++) d[j] += more[j];
        }
        if (run->recipe == DEEPSEEK_V3)
            for (int64_t j = 0; j < z.EV; j++) d[j] *= scores[j];
        if (run->recipe == TOP_P) {
            float weight = (float)(run->loss_coef * ENTROPY / (double)n);
            for (int64_t j = 0; j < z.EV; j++) {
                vec log_prob = s->raw[b * z.EV + j] - log_sum_exp(s->of_logits[b]);
                d[j] -= weight * probs[j] * (log_prob + s->entropy[b]);
            }
        }
        if (run->recipe == SHAZEER) through_noise(run, z, b, s, d_load, d);
        scatter(d, s->grad, z.RV, list_of(s, b));
        reach = s->rows[b] * z.RV > reach ? s->rows[b] * z.RV : reach;
    }
    run->reach[0] = reach;
    vec squares = {0};
    for (int64_t row = 0; row < reach; row += z.RV)
        for (int64_t j = row; j < row + z.EV; j++) squares += s->grad[j] * s->grad[j];
    adam(run, (vec *)run->weights, s->grad, reach);
    return sqrt(total(squares)[0]);
}

/* The bias of an expert with less than the mean load goes up, with more down. */
INLINE void move_bias(const Run *run, const Scratch *s) {
    int64_t slots = 0, E = run->experts;
    for (int64_t e = 0; e < E; e++) slots += s->tokens[e];
    for (int64_t e = 0; e < E; e++) {
        int64_t missing = slots - E * s->tokens[e];
        run->bias[e] += (float)run->bias_step * (float)((missing > 0) - (missing < 0));
    }
}
