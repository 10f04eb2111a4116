// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: dequantises codes with their scales, in memory and while fusing. Products are computed
// as F32 and rounded once, to nearest, ties to even. Results equal PyTorch's bit for bit.
#ifndef SAFEFUSE_RUN_DEQUANTIZE_HPP
#define SAFEFUSE_RUN_DEQUANTIZE_HPP

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include <safefuse/core/config.hpp>
#include <safefuse/core/detail/checked.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/plan/copy_plan.hpp>
#include <safefuse/run/convert.hpp>
#include <safefuse/run/detail/cast_elements.hpp>
#include <safefuse/run/detail/number_codec.hpp>
#include <safefuse/run/fuse_range.hpp>
#include <safefuse/tensor/detail/size_check.hpp>
#include <safefuse/tensor/dtype.hpp>
#include <safefuse/tensor/tensor_view.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// The rows and columns of a matrix that share one scale. The last block of an axis may be smaller.
struct scale_block {
    std::uint64_t rows = 128;     ///< rows that share a scale
    std::uint64_t columns = 128;  ///< columns that share a scale
};

/// Dequantises one matrix or a stack of matrices: value = code * scale, computed as F32 and rounded
/// once to the requested type. It owns no bytes, so any range can be dequantised at any time.
class dequantizer {
public:
    /// Consecutive entries of a tensor.
    struct entry_range {
        std::uint64_t first = 0;  ///< index of the first entry
        std::uint64_t count = 0;  ///< number of entries
    };

    /// Checks shapes and types. Codes are [..., rows, columns] of F8_E4M3, F8_E5M2, F8_E4M3FNUZ,
    /// F8_E5M2FNUZ or F4 (two codes per byte, low half first). Scales are [..., rows / block.rows,
    /// columns / block.columns], rounded up, of F32, F16, BF16, F8_E8M0 or U8. U8 means E8M0,
    /// except that 255 is infinity, as in transformers. `to` is F64, F32, F16 or BF16.
    ///   fails   wrong_dtype, shape_mismatch, out_of_range (an empty block), size_overflow,
    ///           partial_byte
    static result<dequantizer> of(dtype codes, shape_view codes_shape, dtype factors,
                                  shape_view scales_shape, scale_block block, dtype to) noexcept;

    /// Dtype of the codes.
    [[nodiscard]] dtype codes_type() const noexcept { return codes_; }
    /// Dtype of the values.
    [[nodiscard]] dtype type() const noexcept { return to_; }
    /// Number of values.
    [[nodiscard]] std::uint64_t element_count() const noexcept { return stack_ * rows_ * columns_; }
    /// Number of scales.
    [[nodiscard]] std::uint64_t scale_count() const noexcept {
        return stack_ * scale_rows_ * scale_columns_;
    }
    /// Size in bytes of `elements` values.
    [[nodiscard]] std::uint64_t size_bytes(std::uint64_t elements) const noexcept {
        return elements * (bits(to_) / 8);
    }
    /// The scales that a range of elements needs, from the first to the last. The range must be
    /// inside the tensor.
    [[nodiscard]] entry_range scales_of(entry_range elements) const noexcept;

    /// Dequantises a range of elements from its codes and from the scales that scales_of names for
    /// it. Neither needs to be aligned.
    ///   fails   out_of_range, slice_cuts_byte (F4: the range begins or ends inside a byte),
    ///           wrong_buffer_size; `out` is then unchanged
    result<void> run(entry_range elements, span<const std::byte> codes,
                     span<const std::byte> factors, span<std::byte> out) const noexcept {
        return run(elements, codes, factors, out, out.size() >= detail::streamed_bytes);
    }

private:
    friend result<void> dequantize_mxfp4(const tensor_view& blocks, const tensor_view& factors,
                                         dtype to, span<std::byte> out) noexcept;
    friend result<void> fuse_dequantized(const copy_plan& plan, std::string_view local_name,
                                         std::string_view scales_name, scale_block block, dtype to,
                                         span<std::byte> out) noexcept;

    /// One scale as an F32. For E8M0 it is 2^(code - 127), which is subnormal for code 0.
    [[nodiscard]] float scale(const std::byte* factors, std::uint64_t i) const noexcept {
        if (scales_ == dtype::f32)
            return std::bit_cast<float>(detail::load_little<std::uint32_t>(factors + i * 4));
        if (bits(scales_) == 16) {
            const std::uint32_t half = detail::load_little<std::uint16_t>(factors + i * 2);
            return std::bit_cast<float>(scales_ == dtype::bf16 ? detail::decode_bf16(half)
                                                               : detail::f16_format.decode(half));
        }
        const auto code = std::to_integer<std::uint32_t>(factors[i]);
        if (code == 255 && scales_ == dtype::f8_e8m0) return std::bit_cast<float>(0x7F80'0001u);
        return std::bit_cast<float>(code == 0 ? 0x0040'0000u : code << 23);
    }
    /// Scales `count` numbers of one row, starting at `column`. `first_scale` is the index in
    /// `factors` of the scale of column 0. It may be outside `factors` (and wrap) if `factors`
    /// begins later.
    void apply_scales(std::byte* numbers, std::uint64_t column, std::size_t count,
                      const std::byte* factors, std::uint64_t first_scale) const noexcept {
        for (std::size_t done = 0; done < count;) {
            const std::uint64_t block = (column + done) / block_.columns;
            const std::uint64_t left = (block + 1) * block_.columns - column - done;
            const std::size_t here =
                count - done < left ? count - done : static_cast<std::size_t>(left);
            float factor = scale(factors, first_scale + block);
            if (doubles_255_ && factors[first_scale + block] == std::byte{255}) {
                detail::scale_numbers(numbers + done * sizeof(float), here,
                                      std::bit_cast<float>(0x7F00'0000u));
                factor = 2;
            }
            detail::scale_numbers(numbers + done * sizeof(float), here, factor);
            done += here;
        }
    }
    result<void> run(entry_range elements, span<const std::byte> codes,
                     span<const std::byte> factors, span<std::byte> out,
                     bool streams) const noexcept;

    dtype codes_{};
    dtype scales_{};
    dtype to_{};
    bool doubles_255_ = false;  // ldexp instead of a product, because 0.5 * 2^128 is finite
    std::uint64_t stack_ = 1;
    std::uint64_t rows_ = 0, columns_ = 0;
    scale_block block_{};
    std::uint64_t scale_rows_ = 0, scale_columns_ = 0;
};

/// Dequantises codes with their scales (see dequantizer). `out` has room for exactly as many
/// elements of type `to`. DeepSeek-V3 uses blocks of 128 x 128 and F32 scales, MXFP8 blocks of 1 x
/// 32 and E8M0 scales.
///   fails   as dequantizer::of, wrong_buffer_size; nothing is written then
///   source  transformers 5.17.0 integrations/finegrained_fp8.py Fp8Dequantize, which derives the
///           block size from the shapes and refuses incomplete blocks; compared by
///           tests/interop/convert_torch.py
inline result<void> dequantize_blocks(const tensor_view& codes, const tensor_view& factors,
                                      scale_block block, dtype to, span<std::byte> out) noexcept {
    const auto made =
        dequantizer::of(codes.type(), codes.shape(), factors.type(), factors.shape(), block, to);
    if (!made) return failure{made.error()};
    return made->run({0, made->element_count()}, codes.bytes(), factors.bytes(), out);
}

/// Dequantises MXFP4 as gpt-oss stores it. `blocks` is U8 [..., G, B] with two F4 codes per byte,
/// low half first. `factors` is U8 [..., G] with one exponent, biased by 127, for each B bytes.
/// `out` is [..., G * 2B] in the order of the codes.
///   fails   wrong_dtype, shape_mismatch, size_overflow, wrong_buffer_size; nothing is written then
///   source  transformers 5.17.0 integrations/mxfp4.py convert_moe_packed_tensors without its final
///           transpose; compared by tests/interop/convert_torch.py
inline result<void> dequantize_mxfp4(const tensor_view& blocks, const tensor_view& factors,
                                     dtype to, span<std::byte> out) noexcept {
    if (blocks.type() != dtype::u8 || factors.type() != dtype::u8)
        return failure{.code = errc::wrong_dtype, .detail = "blocks and scales must be U8"};
    const shape_view shape = blocks.shape();
    if (shape.empty() || factors.rank() + 1 != shape.size())
        return failure{.code = errc::shape_mismatch,
                       .detail = "scales must have one axis less than their blocks",
                       .expected = factors.rank() + 1,
                       .actual = shape.size()};
    for (std::size_t axis = 0; axis < factors.rank(); ++axis)
        if (shape[axis] != factors.shape()[axis])
            return failure{.code = errc::shape_mismatch,
                           .detail = "the scales are for a different number of blocks",
                           .expected = shape[axis],
                           .actual = factors.shape()[axis]};
    std::uint64_t columns = 0;
    if (!detail::checked_mul(shape.back(), 2, columns)) return failure{.code = errc::size_overflow};
    const std::uint64_t codes_shape[] = {factors.element_count(), columns},
                        scales_shape[] = {factors.element_count(), columns == 0 ? 0u : 1u};
    auto made = dequantizer::of(dtype::f4, codes_shape, dtype::u8, scales_shape,
                                {1, columns == 0 ? 1 : columns}, to);
    if (!made) return std::move(made).error();
    made->doubles_255_ = true;
    return made->run({0, made->element_count()}, blocks.bytes(),
                     columns == 0 ? span<const std::byte>{} : factors.bytes(), out);
}

/// Fuses and dequantises one output of a plan in one pass, without the whole of codes or scales in
/// memory. `scales_name` is the output with the scales, for example gate_up_proj_scale_inv.
///   memory  256 KiB, the scales of 256 KiB of codes, and what reading strided copies takes, beside
///           `out`
///   fails   output_not_found, as dequantizer::of, wrong_buffer_size (nothing is written then),
///           out_of_memory, and as reading the sources does (`out` may be partly written)
inline result<void> fuse_dequantized(const copy_plan& plan, std::string_view local_name,
                                     std::string_view scales_name, scale_block block, dtype to,
                                     span<std::byte> out) noexcept {
    const auto codes = plan.output(local_name);
    if (!codes) return codes.error();
    const auto factors = plan.output(scales_name);
    if (!factors) return factors.error();
    auto made =
        dequantizer::of(codes->type, codes->shape, factors->type, factors->shape, block, to);
    if (!made) return detail::of_output(std::move(made).error(), *codes);
    const std::uint64_t count = made->element_count(), code_bits = bits(codes->type),
                        scale_bytes = bits(factors->type) / 8;
    if (out.size() != made->size_bytes(count))
        return detail::of_output(detail::wrong_buffer(made->size_bytes(count), out.size()), *codes);
    const std::size_t codes_number = plan.index_of(local_name);
    const std::size_t scales_number = plan.index_of(scales_name);

    vector<std::byte> piece, piece_scales;
    const std::uint64_t most = detail::piece_bytes * 8 / code_bits;
    if (!piece.resize_unset(detail::piece_bytes)) return detail::lack_of_memory{};
    for (std::uint64_t first = 0; first < count; first += most) {
        const dequantizer::entry_range elements{first, count - first < most ? count - first : most};
        const dequantizer::entry_range needed = made->scales_of(elements);
        const span<std::byte> of_codes{piece.data(),
                                       static_cast<std::size_t>(elements.count * code_bits / 8)};
        if (!piece_scales.resize_unset(static_cast<std::size_t>(needed.count * scale_bytes)))
            return detail::lack_of_memory{};
        const span<std::byte> of_scales{piece_scales.data(), piece_scales.size()};
        if (auto done = fuse_range(plan, codes_number, first * code_bits / 8, of_codes); !done)
            return done;
        if (auto done = fuse_range(plan, scales_number, needed.first * scale_bytes, of_scales);
            !done)
            return done;
        const span<std::byte> values =
            out.subspan(static_cast<std::size_t>(made->size_bytes(first)),
                        static_cast<std::size_t>(made->size_bytes(elements.count)));
        if (auto done = made->run(elements, of_codes, of_scales, values,
                                  out.size() >= detail::streamed_bytes);
            !done)
            return done;
    }
    return {};
}

/// The output with the block scales of another output: its name is that of the other with the
/// layout's suffix of scales (`gate_up_proj` and `gate_up_proj_scale_inv`, `7.w1.weight` and
/// `7.w1.weight_scale_inv`, `w13_weight` and `w13_weight_scaling_factor`). Null if there is none.
///   lifetime  belongs to the plan
[[nodiscard]] inline const plan_output* scales_of(const copy_plan& plan SAFEFUSE_LIFETIMEBOUND,
                                                  std::string_view local_name) noexcept {
    for (const plan_output& each : plan.outputs()) {
        if (!each.local_name.starts_with(local_name)) continue;
        const std::string_view ending = each.local_name.substr(local_name.size());
        if (ending == "_scale_inv" || ending == "_scaling_factor") return &each;
    }
    return nullptr;
}

/// Fuses and dequantises with the scales that scales_of finds, in blocks of 128 x 128.
///   fails   missing_scales (the plan has no such scales), and as the overload with a name of
///           scales
inline result<void> fuse_dequantized(const copy_plan& plan, std::string_view local_name, dtype to,
                                     span<std::byte> out) noexcept {
    const auto codes = plan.output(local_name);
    if (!codes) return codes.error();
    const plan_output* const factors = scales_of(plan, local_name);
    if (factors == nullptr)
        return failure{
            .code = errc::missing_scales, .tensor = text{codes->name}, .scope = text{plan.scope()}};
    return fuse_dequantized(plan, local_name, factors->local_name, {}, to, out);
}

// Implementation of dequantizer.

namespace detail {

/// Checks everything except that the extents of codes and scales match.
///   fails   as dequantizer::of
inline result<void> check_dequantised(dtype codes, shape_view codes_shape, dtype factors,
                                      shape_view scales_shape, scale_block block,
                                      dtype to) noexcept {
    if (codes != dtype::f4 && codes != dtype::f8_e4m3 && codes != dtype::f8_e5m2 &&
        codes != dtype::f8_e4m3fnuz && codes != dtype::f8_e5m2fnuz)
        return wrong_type("codes of type ", codes);
    if (factors != dtype::f32 && factors != dtype::f16 && factors != dtype::bf16 &&
        factors != dtype::f8_e8m0 && factors != dtype::u8)
        return wrong_type("scales of type ", factors);
    if (!is_float(to)) return wrong_type("values cannot have type ", to);
    if (block.rows == 0 || block.columns == 0)
        return failure{.code = errc::out_of_range, .detail = "the block of a scale is empty"};
    if (codes_shape.size() < 2)
        return failure{.code = errc::shape_mismatch,
                       .detail = "codes must be matrices",
                       .expected = 2,
                       .actual = codes_shape.size()};
    if (scales_shape.size() != codes_shape.size())
        return failure{.code = errc::shape_mismatch,
                       .detail = "scales must have as many axes as their codes",
                       .expected = codes_shape.size(),
                       .actual = scales_shape.size()};
    std::uint64_t size_bytes = 0;
    auto fit = check_size(codes, codes_shape, size_bytes);
    if (fit) fit = check_size(factors, scales_shape, size_bytes);
    if (fit) fit = check_size(to, codes_shape, size_bytes);
    return fit;
}

}  // namespace detail

inline result<dequantizer> dequantizer::of(dtype codes, shape_view codes_shape, dtype factors,
                                           shape_view scales_shape, scale_block block,
                                           dtype to) noexcept {
    if (auto fit = detail::check_dequantised(codes, codes_shape, factors, scales_shape, block, to);
        !fit)
        return std::move(fit).error();
    dequantizer out;
    out.codes_ = codes;
    out.scales_ = factors;
    out.to_ = to;
    const std::size_t matrix = codes_shape.size() - 2;
    out.rows_ = codes_shape[matrix];
    out.columns_ = codes_shape[matrix + 1];
    const auto blocks_of = [](std::uint64_t extent, std::uint64_t each) noexcept {
        return extent / each + (extent % each == 0 ? 0 : 1);
    };
    out.scale_rows_ = blocks_of(out.rows_, block.rows);
    out.scale_columns_ = blocks_of(out.columns_, block.columns);
    for (std::size_t axis = 0; axis < codes_shape.size(); ++axis) {
        const std::uint64_t expected = axis < matrix    ? codes_shape[axis]
                                       : axis == matrix ? out.scale_rows_
                                                        : out.scale_columns_;
        if (axis < matrix) out.stack_ *= codes_shape[axis];
        if (scales_shape[axis] != expected)
            return failure{.code = errc::shape_mismatch,
                           .detail = "the scales are for blocks of a different size",
                           .expected = expected,
                           .actual = scales_shape[axis]};
    }
    if (out.stack_ == 0) out.rows_ = out.columns_ = 0;
    // a block is at most as long as its axis, so nothing overflows below
    out.block_ = {block.rows < out.rows_ ? block.rows : out.rows_,
                  block.columns < out.columns_ ? block.columns : out.columns_};
    if (out.block_.rows == 1 && out.columns_ != 0 && out.columns_ % out.block_.columns == 0) {
        // each row has scales of its own: treat all rows as one long row
        out.columns_ *= out.rows_ * out.stack_;
        out.scale_columns_ *= out.scale_rows_ * out.stack_;
        out.rows_ = out.scale_rows_ = out.stack_ = out.block_.rows = 1;
    }
    return out;
}

inline dequantizer::entry_range dequantizer::scales_of(entry_range elements) const noexcept {
    if (elements.count == 0 || rows_ == 0 || columns_ == 0) return {};  // no codes need no scales
    const auto scale_row = [this](std::uint64_t row) noexcept {
        return row / rows_ * scale_rows_ + row % rows_ / block_.rows;
    };
    const std::uint64_t last = elements.first + elements.count - 1;
    const std::uint64_t first_row = elements.first / columns_, last_row = last / columns_;
    // columns narrow the range only if all elements are in one row
    std::uint64_t first = scale_row(first_row) * scale_columns_,
                  end = (scale_row(last_row) + 1) * scale_columns_;
    if (first_row == last_row) {
        end = first + last % columns_ / block_.columns + 1;
        first += elements.first % columns_ / block_.columns;
    }
    return {first, end - first};
}

inline result<void> dequantizer::run(entry_range elements, span<const std::byte> codes,
                                     span<const std::byte> factors, span<std::byte> out,
                                     bool streams) const noexcept {
    const std::uint64_t whole = element_count();
    if (!detail::lies_inside(elements.first, elements.count, whole))
        return failure{.code = errc::out_of_range, .expected = whole, .actual = elements.first};
    const std::uint64_t first_bit = elements.first * bits(codes_),
                        size_bits = elements.count * bits(codes_);
    if (first_bit % 8 != 0 || size_bits % 8 != 0)
        return failure{.code = errc::slice_cuts_byte, .offset = first_bit / 8};
    const entry_range needed = scales_of(elements);
    if (codes.size() != size_bits / 8) return detail::wrong_buffer(size_bits / 8, codes.size());
    if (factors.size() != needed.count * (bits(scales_) / 8))
        return detail::wrong_buffer(needed.count * (bits(scales_) / 8), factors.size());
    if (out.size() != size_bytes(elements.count))
        return detail::wrong_buffer(size_bytes(elements.count), out.size());

    detail::number_writer writer{to_, out.data(), streams, 0xFFFF};
    for (std::uint64_t done = 0; done < elements.count;) {
        const std::uint64_t at = elements.first + done, row = at / columns_, column = at % columns_;
        const std::uint64_t scale_row = row / rows_ * scale_rows_ + row % rows_ / block_.rows;
        const std::uint64_t row_end =
            columns_ - column < elements.count - done ? done + columns_ - column : elements.count;
        for (std::uint64_t in_row = column; done < row_end;) {
            const std::size_t next = writer.next(row_end - done);
            std::byte* const numbers = writer.numbers();
            if (codes_ == dtype::f4)
                detail::decode_f4(codes.data(), done, numbers, next);
            else
                detail::decode_numbers(codes_, codes.data() + done, numbers, next);
            apply_scales(numbers, in_row, next, factors.data(),
                         scale_row * scale_columns_ - needed.first);
            writer.write(numbers, next);
            done += next;
            in_row += next;
        }
    }
    return {};
}

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
