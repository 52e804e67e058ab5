// Many small LSTM recurrences in float32 on CPUs, each from its first step to its last in one go, forwards and backwards.
//
// Operators epilm_recurrence::forward and ::backward; recurrence.py builds and calls them. The gates' sums of a few rows
// and of LANES hidden units stay in registers from the product to the new state; a recurrence's weights stay in the first
// cache. The recurrences are shared out among torch's threads.
//
// Shapes: R = recurrences, T = steps, N = rows of the batch, I = input size, H = hidden size; P = H, filled up with zeros
// to a multiple of LANES; B = P / LANES blocks of hidden units. Gates in torch's order: input, forget, cell, output.

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <tuple>
#include <type_traits>
#include <vector>

namespace {

#if defined(__AVX512F__)
constexpr int LANES = 16, ROWS_OF_4 = 6, ROWS_OF_2 = 10;  // of 32 registers
#elif defined(__AVX__)
constexpr int LANES = 8, ROWS_OF_4 = 2, ROWS_OF_2 = 5;  // of 16
#else
constexpr int LANES = 4, ROWS_OF_4 = 2, ROWS_OF_2 = 5;
#endif
constexpr int AHEAD = 4;  // steps: the backward pass asks for what it will read; the hardware does not foresee that order
constexpr int GATES = 4, KEPT = 5;  // kept for the backward pass: the four gates and the cell state

typedef float Vec __attribute__((vector_size(LANES * 4)));
typedef float Loose __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef int32_t Bits __attribute__((vector_size(LANES * 4)));

#define INLINED __attribute__((always_inline))
#define INLINE inline INLINED

INLINE Vec load(const float* from) { return (Vec) * reinterpret_cast<const Loose*>(from); }
INLINE void store(float* to, Vec value) { *reinterpret_cast<Loose*>(to) = (Loose)value; }
INLINE void fetch(const float* from) { __builtin_prefetch(from, 0, 2); }  // into the second cache: the first is too small
INLINE Vec all(float value) { return value - Vec{}; }
INLINE Vec clamp(Vec x, float low, float high) {
  x = x < low ? all(low) : x;  // a NaN passes both
  return x > high ? all(high) : x;
}

// 1 / (1 + e^-x). The power of two nearest to e^-x is added to the exponent of a polynomial of degree 5 in what is left
// (minimax of the relative error, 7.5e-8). Beyond 87 the float32 ends.
INLINE Vec sigmoid(Vec x) {
  x = clamp(x, -87.f, 87.f);
  const Vec log2_e = all(-1.4426950216293335f), rest = all(-1.925963e-8f), round = all(12582912.f);  // 1.5 * 2^23
  const Vec shifted = x * log2_e + round;
  const Vec whole = shifted - round;
  const Vec r = x * rest + (x * log2_e - whole);
  Vec p = r * 0.0013276471736751172f + 0.009675541540075107f;
  p = p * r + 0.05550713276094935f;
  p = p * r + 0.24022119720074792f;
  p = p * r + 0.6931469670620392f;
  p = p * r + 1.0000000716554311f;
  const Vec power = (Vec)((Bits)p + ((Bits)shifted << 23));
  return 1.f / (1.f + power);
}

// tanh as a quotient of polynomials (the one of Eigen), relative error below 5e-7; 1 in float32 beyond 7.9.
INLINE Vec tanh_of(Vec x) {
  x = clamp(x, -7.90531110763549805f, 7.90531110763549805f);
  const Vec s = x * x;
  Vec p = s * -2.76076847742355e-16f + 2.00018790482477e-13f;
  p = p * s - 8.60467152213735e-11f;
  p = p * s + 5.12229709037114e-08f;
  p = p * s + 1.48572235717979e-05f;
  p = p * s + 6.37261928875436e-04f;
  p = p * s + 4.89352455891786e-03f;
  Vec q = s * 1.19825839466702e-06f + 1.18534705686654e-04f;
  q = q * s + 2.26843463243900e-03f;
  q = q * s + 4.89352518554385e-03f;
  return x * p / q;
}

// sums[r][c] += sum over k of a[r * row + k * step] * b[k * width + c * LANES ...].
template <int ROWS, int COLUMNS>
INLINE void multiply(int64_t depth, const float* a, int64_t row, int64_t step, const float* b, int64_t width,
                     Vec (&sums)[ROWS][COLUMNS]) {
  for (int64_t k = 0; k < depth; ++k, a += step, b += width) {
    Vec column[COLUMNS];
#pragma GCC unroll 8
    for (int c = 0; c < COLUMNS; ++c) column[c] = load(b + c * LANES);
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; ++r) {
#pragma GCC unroll 8
      for (int c = 0; c < COLUMNS; ++c) sums[r][c] += a[r * row] * column[c];
    }
  }
}

template <int ROWS, class Do>
INLINE void with_rows(int64_t rows, const Do& act) {
  if (rows == ROWS) {
    act(std::integral_constant<int, ROWS>{});
  } else if constexpr (ROWS > 1) {
    with_rows<ROWS - 1>(rows, act);
  }
}

// act(first row, number of rows as a type) for blocks of about equal size, at most MOST.
template <int MOST, class Do>
INLINE void in_blocks(int64_t rows, const Do& act) {
  const int64_t blocks = (rows + MOST - 1) / MOST, size = (rows + blocks - 1) / blocks;
  for (int64_t first = 0; first < rows; first += size) {
    with_rows<MOST>(std::min(size, rows - first), [&](auto number) INLINED { act(first, number); });
  }
}

// out[rows, columns] = a[rows, depth] b[depth, columns] + (given or 0); columns a multiple of LANES.
INLINE void product(int64_t rows, int64_t depth, int64_t columns, const float* a, const float* b, const float* given,
                    float* out) {
  const auto strip = [&](int64_t column, auto width) INLINED {
    constexpr int W = decltype(width)::value;
    in_blocks<ROWS_OF_2>(rows, [&](int64_t first, auto number) INLINED {
      constexpr int ROWS = decltype(number)::value;
      Vec sums[ROWS][W];
      for (int r = 0; r < ROWS; ++r)
        for (int c = 0; c < W; ++c)
          sums[r][c] = given ? load(given + (first + r) * columns + column + c * LANES) : Vec{};
      multiply<ROWS, W>(depth, a + first * depth, depth, 1, b + column, columns, sums);
      for (int r = 0; r < ROWS; ++r)
        for (int c = 0; c < W; ++c) store(out + (first + r) * columns + column + c * LANES, sums[r][c]);
    });
  };
  int64_t column = 0;
  for (; column + 2 * LANES <= columns; column += 2 * LANES) strip(column, std::integral_constant<int, 2>{});
  if (column < columns) strip(column, std::integral_constant<int, 1>{});
}

// out[depth, columns] += a[rows, depth]' b[rows, columns], with `stride` from row to row of a; columns of four times LANES.
INLINE void add_products(int64_t depth, int64_t rows, int64_t columns, const float* a, int64_t stride, const float* b,
                         float* out) {
  in_blocks<ROWS_OF_4>(depth, [&](int64_t first, auto number) INLINED {
    constexpr int ROWS = decltype(number)::value;
    for (int64_t column = 0; column < columns; column += 4 * LANES) {
      float* place = out + first * columns + column;
      Vec sums[ROWS][4];
      for (int r = 0; r < ROWS; ++r)
        for (int c = 0; c < 4; ++c) sums[r][c] = load(place + r * columns + c * LANES);
      multiply<ROWS, 4>(rows, a + first, 1, stride, b + column, columns, sums);
      for (int r = 0; r < ROWS; ++r)
        for (int c = 0; c < 4; ++c) store(place + r * columns + c * LANES, sums[r][c]);
    }
  });
}

int64_t filled_up(int64_t size) { return (size + LANES - 1) / LANES * LANES; }

struct Sizes {
  int64_t T, N, I, H, P, B;
  int64_t kept_step() const { return B * N * KEPT * LANES; }
};

// Hidden states [T, N, P] of one recurrence; `kept` [T, B, N, KEPT, LANES] or null.
void run_forward(const Sizes& z, const float* inputs, const float* weight_ih, const float* weight_hh, const float* bias,
                 float* hidden, float* kept) {
  const int64_t depth = z.H + z.I, width = GATES * LANES;
  std::vector<float> weights(z.B * depth * width), biases(z.B * width), before(z.N * z.P), cells(z.N * z.P);
  for (int64_t h = 0; h < z.H; ++h) {
    for (int64_t gate = 0; gate < GATES; ++gate) {
      const int64_t from = gate * z.H + h, to = gate * LANES + h % LANES;
      float* column = weights.data() + h / LANES * depth * width + to;
      for (int64_t k = 0; k < z.H; ++k) column[k * width] = weight_hh[from * z.H + k];
      for (int64_t k = 0; k < z.I; ++k) column[(z.H + k) * width] = weight_ih[from * z.I + k];
      biases[h / LANES * width + to] = bias[from];
    }
  }
  const float* last = before.data();
  for (int64_t t = 0; t < z.T; ++t) {
    float* now = hidden + t * z.N * z.P;
    const float* input = inputs + t * z.N * z.I;
    for (int64_t block = 0; block < z.B; ++block) {
      const float* weight = weights.data() + block * depth * width;
      in_blocks<ROWS_OF_4>(z.N, [&](int64_t first, auto number) INLINED {
        constexpr int ROWS = decltype(number)::value;
        Vec sums[ROWS][GATES];
        for (int r = 0; r < ROWS; ++r)
          for (int gate = 0; gate < GATES; ++gate) sums[r][gate] = load(biases.data() + block * width + gate * LANES);
        multiply<ROWS, GATES>(z.I, input + first * z.I, z.I, 1, weight + z.H * width, width, sums);
        multiply<ROWS, GATES>(z.H, last + first * z.P, z.P, 1, weight, width, sums);
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; ++r) {
          float* cell = cells.data() + (block * z.N + first + r) * LANES;
          const Vec i = sigmoid(sums[r][0]), f = sigmoid(sums[r][1]), g = tanh_of(sums[r][2]), o = sigmoid(sums[r][3]);
          const Vec c = f * load(cell) + i * g;
          store(cell, c);
          store(now + (first + r) * z.P + block * LANES, o * tanh_of(c));
          if (kept) {
            float* keep = kept + t * z.kept_step() + (block * z.N + first + r) * KEPT * LANES;
            store(keep, i);
            store(keep + LANES, f);
            store(keep + 2 * LANES, g);
            store(keep + 3 * LANES, o);
            store(keep + 4 * LANES, c);
          }
        }
      });
    }
    last = now;
  }
}

// Gradients of one recurrence from those of its hidden states `given` [T, N, P]; grad_inputs [T, N, I] or null.
void run_backward(const Sizes& z, const float* given, const float* inputs, const float* weight_ih, const float* weight_hh,
                  const float* hidden, const float* kept, float* grad_inputs, float* grad_ih, float* grad_hh,
                  float* grad_bias) {
  const int64_t width = GATES * z.P, depth = z.H + z.I + 1, wide_input = grad_inputs ? filled_up(z.I) : 0;
  // The weights' gradients are summed a stretch of steps at a time: few enough to lie in the second cache.
  const int64_t stretch = std::min(z.T, std::max<int64_t>(1, 160 / z.N));
  std::vector<float> of_hidden(width * z.P), of_input(width * wide_input), grads(depth * width);
  std::vector<float> all_sums(stretch * z.N * width), all_rows(stretch * z.N * (z.I + 1));
  std::vector<float> to_inputs(stretch * z.N * wide_input);
  std::vector<float> grad_cells(z.N * z.P), grad_hidden(z.N * z.P);
  for (int64_t gate = 0; gate < GATES; ++gate) {
    for (int64_t h = 0; h < z.H; ++h) {
      const int64_t from = gate * z.H + h, to = gate * z.P + h;
      std::copy_n(weight_hh + from * z.H, z.H, of_hidden.data() + to * z.P);
      if (grad_inputs) std::copy_n(weight_ih + from * z.I, z.I, of_input.data() + to * wide_input);
    }
  }
  const int64_t step = z.N * z.P;
  std::copy_n(given + (z.T - 1) * step, step, grad_hidden.data());
  for (int64_t t = z.T - 1; t >= 0; --t) {
    const int64_t place = t % stretch;
    float* sums = all_sums.data() + place * z.N * width;
    for (int64_t block = 0; block < z.B; ++block) {
      for (int64_t n = 0; n < z.N; ++n) {
        const float* keep = kept + t * z.kept_step() + (block * z.N + n) * KEPT * LANES;
        if (t >= AHEAD) {
          const int64_t at = (t - AHEAD) * step + n * z.P + block * LANES;
          for (int part = 0; part < KEPT; ++part) fetch(keep - AHEAD * z.kept_step() + part * LANES);
          fetch(given + at);
          fetch(hidden + at);
        }
        float* cell = grad_cells.data() + (block * z.N + n) * LANES;
        float* sum = sums + n * width + block * LANES;
        const Vec i = load(keep), f = load(keep + LANES), g = load(keep + 2 * LANES), o = load(keep + 3 * LANES);
        const Vec before = t ? load(keep - z.kept_step() + 4 * LANES) : Vec{};
        const Vec squashed = tanh_of(load(keep + 4 * LANES));
        const Vec grad_h = load(grad_hidden.data() + n * z.P + block * LANES);
        const Vec grad_c = load(cell) + grad_h * o * (1.f - squashed * squashed);
        store(sum, grad_c * g * i * (1.f - i));
        store(sum + z.P, grad_c * before * f * (1.f - f));
        store(sum + 2 * z.P, grad_c * i * (1.f - g * g));
        store(sum + 3 * z.P, grad_h * squashed * o * (1.f - o));
        store(cell, grad_c * f);
      }
    }
    if (t) product(z.N, width, z.P, sums, of_hidden.data(), given + (t - 1) * step, grad_hidden.data());
    for (int64_t n = 0; n < z.N; ++n) {
      float* row = all_rows.data() + (place * z.N + n) * (z.I + 1);
      for (int64_t k = 0; k < z.I; ++k) row[k] = inputs[(t * z.N + n) * z.I + k];
      row[z.I] = 1;
    }
    if (place) continue;
    const int64_t rows = std::min(stretch, z.T - t) * z.N, none = t ? 0 : z.N;  // before the first step the state is 0
    add_products(z.H, rows - none, width, hidden + (t - 1) * step + none * z.P, z.P, all_sums.data() + none * width,
                 grads.data());
    add_products(z.I + 1, rows, width, all_rows.data(), z.I + 1, all_sums.data(), grads.data() + z.H * width);
    if (!grad_inputs) continue;
    product(rows, width, wide_input, all_sums.data(), of_input.data(), nullptr, to_inputs.data());
    for (int64_t r = 0; r < rows; ++r)
      std::copy_n(to_inputs.data() + r * wide_input, z.I, grad_inputs + (t * z.N + r) * z.I);
  }
  for (int64_t gate = 0; gate < GATES; ++gate) {
    for (int64_t h = 0; h < z.H; ++h) {
      const int64_t to = gate * z.H + h;
      const float* column = grads.data() + gate * z.P + h;
      for (int64_t k = 0; k < z.H; ++k) grad_hh[to * z.H + k] = column[k * width];
      for (int64_t k = 0; k < z.I; ++k) grad_ih[to * z.I + k] = column[(z.H + k) * width];
      grad_bias[to] = column[(z.H + z.I) * width];
    }
  }
}

// What the forward pass keeps is by far the largest tensor, and new memory of that size costs as much as filling it (the
// system clears it a page at a time). So the memory is used again once no graph holds it.
at::Tensor kept_memory(int64_t size) {
  constexpr int64_t LEAST = 1 << 20;
  constexpr size_t MOST = 2;
  static std::mutex mutex;
  static std::vector<at::Tensor> pool;
  if (size < LEAST) return at::empty({size});
  const std::lock_guard<std::mutex> guard(mutex);
  pool.erase(std::remove_if(pool.begin(), pool.end(),
                            [&](const at::Tensor& held) { return held.storage().use_count() == 1 && held.numel() != size; }),
             pool.end());
  for (const at::Tensor& held : pool)
    if (held.storage().use_count() == 1) return held.view({size});
  at::Tensor fresh = at::empty({size});
  if (pool.size() < MOST) pool.push_back(fresh);
  return fresh.view({size});
}

Sizes sizes_of(const at::Tensor& inputs, const at::Tensor& weight_hh) {
  const int64_t H = weight_hh.size(2), P = filled_up(H);
  return {inputs.size(1), inputs.size(2), inputs.size(3), H, P, P / LANES};
}

void check(const at::Tensor& tensor, std::initializer_list<int64_t> shape) {
  TORCH_CHECK(tensor.scalar_type() == at::kFloat && tensor.device().is_cpu() && tensor.is_contiguous(),
              "epilm_recurrence: a contiguous float32 tensor on the CPU is needed");
  TORCH_CHECK(tensor.sizes() == at::IntArrayRef(shape), "epilm_recurrence: shape ", tensor.sizes(), ", not ",
              at::IntArrayRef(shape));
}

// inputs [R, T, N, I], weights [R, 4H, I], [R, 4H, H], [R, 4H] -> hidden states [R, T, N, P] and what was kept (none: empty).
std::tuple<at::Tensor, at::Tensor> forward(const at::Tensor& inputs, const at::Tensor& weight_ih, const at::Tensor& weight_hh,
                                           const at::Tensor& bias, bool keep) {
  TORCH_CHECK(inputs.dim() == 4 && weight_hh.dim() == 3, "epilm_recurrence: 4 and 3 dimensions are needed");
  const Sizes z = sizes_of(inputs, weight_hh);
  const int64_t R = inputs.size(0);
  check(inputs, {R, z.T, z.N, z.I});
  check(weight_ih, {R, GATES * z.H, z.I});
  check(weight_hh, {R, GATES * z.H, z.H});
  check(bias, {R, GATES * z.H});
  at::Tensor hidden = at::empty({R, z.T, z.N, z.P});
  const int64_t kept_each = keep ? z.T * z.kept_step() : 0;
  at::Tensor kept = kept_memory(R * kept_each);
  const float *in = inputs.const_data_ptr<float>(), *ih = weight_ih.const_data_ptr<float>(),
              *hh = weight_hh.const_data_ptr<float>(), *b = bias.const_data_ptr<float>();
  float *out = hidden.mutable_data_ptr<float>(), *keeps = keep ? kept.mutable_data_ptr<float>() : nullptr;
  at::parallel_for(0, R, 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      run_forward(z, in + r * z.T * z.N * z.I, ih + r * GATES * z.H * z.I, hh + r * GATES * z.H * z.H, b + r * GATES * z.H,
                  out + r * z.T * z.N * z.P, keeps ? keeps + r * kept_each : nullptr);
  });
  return {hidden, kept};
}

// Gradients of inputs (empty if not asked for), weight_ih, weight_hh and bias.
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> backward(const at::Tensor& grad_hidden, const at::Tensor& inputs,
                                                                    const at::Tensor& weight_ih, const at::Tensor& weight_hh,
                                                                    const at::Tensor& hidden, const at::Tensor& kept,
                                                                    bool of_inputs) {
  const Sizes z = sizes_of(inputs, weight_hh);
  const int64_t R = inputs.size(0), kept_each = z.T * z.kept_step(), states = z.T * z.N * z.P;
  check(grad_hidden, {R, z.T, z.N, z.P});
  check(hidden, {R, z.T, z.N, z.P});
  check(kept, {R * kept_each});
  at::Tensor grad_inputs = of_inputs ? at::empty(inputs.sizes()) : at::empty({0});
  at::Tensor grad_ih = at::empty(weight_ih.sizes()), grad_hh = at::empty(weight_hh.sizes());
  at::Tensor grad_bias = at::empty({R, GATES * z.H});
  const float *given = grad_hidden.const_data_ptr<float>(), *in = inputs.const_data_ptr<float>(),
              *ih = weight_ih.const_data_ptr<float>(), *hh = weight_hh.const_data_ptr<float>(),
              *h = hidden.const_data_ptr<float>(), *keeps = kept.const_data_ptr<float>();
  float *to_in = of_inputs ? grad_inputs.mutable_data_ptr<float>() : nullptr, *to_ih = grad_ih.mutable_data_ptr<float>(),
        *to_hh = grad_hh.mutable_data_ptr<float>(), *to_bias = grad_bias.mutable_data_ptr<float>();
  at::parallel_for(0, R, 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t input = r * z.T * z.N * z.I, gates = r * GATES * z.H;
      run_backward(z, given + r * states, in + input, ih + gates * z.I, hh + gates * z.H, h + r * states,
                   keeps + r * kept_each, to_in ? to_in + input : nullptr, to_ih + gates * z.I, to_hh + gates * z.H,
                   to_bias + gates);
    }
  });
  return {grad_inputs, grad_ih, grad_hh, grad_bias};
}

}  // namespace

TORCH_LIBRARY(epilm_recurrence, library) {
  library.def("forward(Tensor inputs, Tensor weight_ih, Tensor weight_hh, Tensor bias, bool keep) -> (Tensor, Tensor)");
  library.def(
      "backward(Tensor grad_hidden, Tensor inputs, Tensor weight_ih, Tensor weight_hh, Tensor hidden, Tensor kept, "
      "bool of_inputs) -> (Tensor, Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(epilm_recurrence, CPU, library) {
  library.impl("forward", &forward);
  library.impl("backward", &backward);
}
