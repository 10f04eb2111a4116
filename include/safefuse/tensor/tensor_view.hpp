// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: a tensor that something else owns: dtype, shape and bytes.
#ifndef SAFEFUSE_TENSOR_TENSOR_VIEW_HPP
#define SAFEFUSE_TENSOR_TENSOR_VIEW_HPP

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include <safefuse/core/detail/checked.hpp>
#include <safefuse/core/detail/plain.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/tensor/detail/size_check.hpp>
#include <safefuse/tensor/dtype.hpp>
#include <safefuse/tensor/slice.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// The description of a tensor without its bytes.
///   lifetime  name and shape belong to the tensor set or file that returned the spec
struct tensor_spec {
    std::string_view name;  ///< full name
    dtype type{};           ///< dtype of every element
    shape_view shape;       ///< extents, outermost first; empty for a scalar
};

/// A tensor's dtype, shape and bytes, all owned elsewhere. Elements are row-major and
/// little-endian, as in the file.
class tensor_view {
public:
    tensor_view() noexcept = default;

    /// A view of `bytes`, whose size must be exactly that of the dtype and shape.
    ///   lifetime  neither shape nor bytes are copied
    ///   fails   size_overflow, partial_byte, wrong_buffer_size
    static result<tensor_view> of(dtype type, shape_view shape,
                                  span<const std::byte> bytes) noexcept {
        std::uint64_t size_bytes = 0;
        if (auto fit = detail::check_size(type, shape, size_bytes); !fit)
            return std::move(fit).error();
        if (size_bytes != bytes.size())
            return failure{
                .code = errc::wrong_buffer_size, .expected = size_bytes, .actual = bytes.size()};
        return tensor_view{type, shape, bytes};
    }
    /// A shape or bytes that end with the expression are none to keep.
    template <class Shape, class Bytes>
        requires detail::ending_owner<Shape, std::uint64_t> ||
                     detail::ending_owner<Bytes, std::byte>
    static result<tensor_view> of(dtype, Shape&&, Bytes&&) = delete;

    /// The dtype of every element.
    [[nodiscard]] dtype type() const noexcept { return type_; }
    /// The extents, outermost first.
    ///   lifetime  that of the shape the view was made from
    [[nodiscard]] shape_view shape() const noexcept { return shape_; }
    /// The number of axes; 0 for a scalar.
    [[nodiscard]] std::size_t rank() const noexcept { return shape_.size(); }
    /// All bytes of the tensor.
    ///   lifetime  that of the bytes the view was made from
    [[nodiscard]] span<const std::byte> bytes() const noexcept { return bytes_; }
    /// The size of the tensor in bytes.
    [[nodiscard]] std::size_t size_bytes() const noexcept { return bytes_.size(); }
    /// The product of the extents. For FP4 and FP6 it counts elements, not bytes.
    [[nodiscard]] std::uint64_t element_count() const noexcept {
        return bits(type_) < 8 ? std::uint64_t{bytes_.size()} * 8 / bits(type_)
                               : bytes_.size() / (bits(type_) / 8);
    }

    /// The elements as values of T, without a copy.
    ///   fails   wrong_dtype (dtype_of<T> differs), misaligned (files do not guarantee alignment),
    ///           byte_order (big-endian host); `copy_values` works in the last two cases
    template <class T>
        requires has_dtype<T>
    [[nodiscard]] result<span<const T>> as() const noexcept {
        if (dtype_of<T> != type_) return wrong_type(dtype_of<T>);
        if (std::endian::native != std::endian::little && sizeof(T) > 1)
            return failure{.code = errc::byte_order};
        if (reinterpret_cast<std::uintptr_t>(bytes_.data()) % alignof(T) != 0)
            return failure{.code = errc::misaligned, .expected = alignof(T)};
        return span<const T>{reinterpret_cast<const T*>(bytes_.data()), bytes_.size() / sizeof(T)};
    }

    /// Copies the elements to values of T, with any alignment and on any byte order.
    ///   fails   wrong_dtype, wrong_buffer_size (`out` must have element_count() elements); `out`
    ///           is then unchanged
    template <class T>
        requires has_dtype<T>
    result<void> copy_values(span<T> out) const noexcept {
        if (dtype_of<T> != type_) return wrong_type(dtype_of<T>);
        if (out.size() != element_count())
            return failure{
                .code = errc::wrong_buffer_size, .expected = element_count(), .actual = out.size()};
        if (out.empty()) return {};
        std::memcpy(out.data(), bytes_.data(), bytes_.size());
        if constexpr (std::endian::native != std::endian::little && sizeof(T) > 1) {
            auto* const first = reinterpret_cast<std::byte*>(out.data());
            for (std::size_t i = 0; i < bytes_.size(); i += sizeof(T))
                for (std::size_t low = 0; low < sizeof(T) / 2; ++low)
                    detail::swap(first[i + low], first[i + sizeof(T) - 1 - low]);
        }
        return {};
    }

    /// Copies the bytes unchanged.
    ///   fails   wrong_buffer_size (`out` must have size_bytes() bytes); `out` is then unchanged
    result<void> copy_to(span<std::byte> out) const noexcept {
        if (out.size() != bytes_.size())
            return failure{
                .code = errc::wrong_buffer_size, .expected = bytes_.size(), .actual = out.size()};
        if (!out.empty()) std::memcpy(out.data(), bytes_.data(), out.size());
        return {};
    }

    /// Copies a slice's bytes, run by run. `runs` comes from slice_runs::of with this view's dtype
    /// and shape.
    ///   fails   wrong_buffer_size (`out` must have runs.size_bytes() bytes), out_of_range (`runs`
    ///           belongs to a larger tensor)
    result<void> copy_slice(const slice_runs& runs, span<std::byte> out) const noexcept {
        if (out.size() != runs.size_bytes())
            return failure{.code = errc::wrong_buffer_size,
                           .expected = runs.size_bytes(),
                           .actual = out.size()};
        std::byte* to = out.data();
        const std::size_t run = static_cast<std::size_t>(runs.run_bytes());
        return runs.for_each_run([&](std::uint64_t offset) noexcept -> result<void> {
            if (!detail::lies_inside(offset, run, bytes_.size()))
                return failure{
                    .code = errc::out_of_range, .offset = offset, .expected = bytes_.size()};
            std::memcpy(to, bytes_.data() + offset, run);
            to += run;
            return {};
        });
    }

    /// A contiguous slice as a view, without a copy. `runs` comes from slice_runs::of with this
    /// view's dtype and shape.
    ///   lifetime  the view uses the shape stored in `runs`
    ///   fails   not_resident (the slice has several runs: use copy_slice), out_of_range,
    ///           wrong_buffer_size (`runs` belongs to a tensor with another dtype)
    [[nodiscard]] result<tensor_view> slice(
        const slice_runs& runs SAFEFUSE_LIFETIMEBOUND) const noexcept {
        if (!runs.is_contiguous())
            return failure{.code = errc::not_resident, .detail = "the slice is not contiguous"};
        if (runs.offset_bytes() > bytes_.size() ||
            bytes_.size() - runs.offset_bytes() < runs.size_bytes())
            return failure{.code = errc::out_of_range,
                           .offset = runs.offset_bytes(),
                           .expected = bytes_.size()};
        return of(type_, runs.shape(),
                  bytes_.subspan(static_cast<std::size_t>(runs.offset_bytes()),
                                 static_cast<std::size_t>(runs.size_bytes())));
    }
    result<tensor_view> slice(slice_runs&&) const = delete;

    /// Entry `e` of the first axis, without a copy. In a fused parameter [E, ...] this is expert
    /// `e`.
    ///   fails   out_of_range, slice_cuts_byte (elements smaller than a byte)
    [[nodiscard]] result<tensor_view> expert(std::uint64_t e) const noexcept {
        if (shape_.empty()) return failure{.code = errc::out_of_range, .expected = 0, .actual = e};
        if (e >= shape_[0]) return detail::out_of_axis("index", e, 0, shape_[0]);
        const std::uint64_t each = element_count() / shape_[0] * bits(type_);
        if (each % 8 != 0) return failure{.code = errc::slice_cuts_byte};
        return tensor_view{type_, shape_.subspan(1),
                           bytes_.subspan(static_cast<std::size_t>(e * (each / 8)),
                                          static_cast<std::size_t>(each / 8))};
    }

    /// The entry of the first axis whose bytes contain `address`: the inverse of
    /// expert(e).bytes().data().
    ///   fails   out_of_range, slice_cuts_byte (elements smaller than a byte)
    [[nodiscard]] result<std::uint64_t> expert_of(const void* address) const noexcept {
        const auto first = reinterpret_cast<std::uintptr_t>(bytes_.data());
        const auto wanted = reinterpret_cast<std::uintptr_t>(address);
        if (shape_.empty() || wanted < first || wanted - first >= bytes_.size())
            return failure{.code = errc::out_of_range, .expected = bytes_.size()};
        // Not 0: there are bytes.
        const std::uint64_t each = element_count() / shape_[0] * bits(type_);
        if (each % 8 != 0) return failure{.code = errc::slice_cuts_byte};
        return std::uint64_t{wanted - first} / (each / 8);
    }

private:
    tensor_view(dtype type, shape_view shape, span<const std::byte> bytes) noexcept
        : type_{type}, shape_{shape}, bytes_{bytes} {}

    [[nodiscard]] failure wrong_type(dtype wanted) const noexcept {
        text detail{"it is "};
        detail.append(name(type_));
        detail.append(", not ");
        detail.append(name(wanted));
        return failure{.code = errc::wrong_dtype, .detail = std::move(detail)};
    }

    dtype type_{};
    shape_view shape_;
    span<const std::byte> bytes_;
};

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
