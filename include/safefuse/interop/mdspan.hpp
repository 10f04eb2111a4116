// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: tensors as multidimensional arrays: std::mdspan, the Kokkos reference implementation,
// or any type with the same interface. This header is opt-in: no other header includes it. It does
// not include <mdspan>; the caller includes the header of the type it uses.
#ifndef SAFEFUSE_INTEROP_MDSPAN_HPP
#define SAFEFUSE_INTEROP_MDSPAN_HPP

#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/tensor/dtype.hpp>
#include <safefuse/tensor/tensor_traits.hpp>
#include <safefuse/tensor/tensor_view.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// An mdspan over a plain pointer, whose element type has a dtype.
template <class Mdspan>
concept mdspan_type = requires(const Mdspan& values) {
    typename Mdspan::extents_type;
    typename Mdspan::layout_type;
    typename Mdspan::index_type;
    requires has_dtype<std::remove_const_t<typename Mdspan::element_type>>;
    requires std::same_as<typename Mdspan::data_handle_type, typename Mdspan::element_type*>;
    values.data_handle();
    { Mdspan::rank() } -> std::convertible_to<std::size_t>;
    Mdspan::static_extent(0);
};

namespace detail {

template <mdspan_type Mdspan>
constexpr std::size_t mdspan_rank = static_cast<std::size_t>(Mdspan::rank());

// Whether the elements are row-major without gaps. If an extent is 1, its stride has no meaning. If
// there are no elements, all strides are ignored: their products may overflow.
template <mdspan_type Mdspan>
constexpr bool is_row_major(const Mdspan& values) noexcept {
    if constexpr (mdspan_rank<Mdspan> != 0) {  // a scalar has no strides
        for (std::size_t axis = 0; axis < mdspan_rank<Mdspan>; ++axis)
            if (values.extent(axis) == 0) return true;
        std::uint64_t stride = 1;
        for (std::size_t axis = mdspan_rank<Mdspan>; axis-- != 0;) {
            const auto extent = static_cast<std::uint64_t>(values.extent(axis));
            if (extent != 1 && static_cast<std::uint64_t>(values.stride(axis)) != stride)
                return false;
            stride *= extent;
        }
    }
    return true;
}

}  // namespace detail

/// A tensor's elements as an mdspan, for example std::mdspan<const float,
/// std::dextents<std::size_t, 3>>, without a copy.
///   lifetime  the mdspan points to the viewed bytes
///   fails   as tensor_view::as (wrong_dtype, misaligned, byte_order); shape_mismatch (the rank or
///           a static extent differs, or the layout is not row-major), size_overflow (an extent or
///           their product exceeds the index type), wrong_buffer_size (the view is a default
///           tensor_view{})
template <mdspan_type Mdspan>
    requires std::is_const_v<typename Mdspan::element_type>
[[nodiscard]] result<Mdspan> mdspan_of(const tensor_view& tensor) noexcept {
    constexpr std::size_t rank = detail::mdspan_rank<Mdspan>;
    using index = typename Mdspan::index_type;
    const auto values = tensor.as<std::remove_const_t<typename Mdspan::element_type>>();
    if (!values) return values.error();
    // the extents say how many elements are read; a default-constructed view has fewer
    if (auto whole = tensor_view::of(tensor.type(), tensor.shape(), tensor.bytes()); !whole)
        return std::move(whole).error();
    if (tensor.rank() != rank)
        return failure{.code = errc::shape_mismatch,
                       .detail = "the number of axes differs",
                       .expected = rank,
                       .actual = tensor.rank()};
    std::array<index, rank> extents{};
    for (std::size_t axis = 0; axis < rank; ++axis) {
        const std::uint64_t extent = tensor.shape()[axis];
        extents[axis] = static_cast<index>(extent);
        if (!std::in_range<index>(extent))
            return failure{.code = errc::size_overflow, .detail = "an extent", .actual = extent};
        constexpr auto dynamic_extent = static_cast<std::size_t>(-1);
        if (const auto fixed = static_cast<std::size_t>(Mdspan::static_extent(axis));
            fixed != dynamic_extent && fixed != extent)
            return failure{.code = errc::shape_mismatch,
                           .detail = "an extent",
                           .expected = fixed,
                           .actual = extent};
    }
    // a precondition of mdspan: otherwise its strides overflow
    if (!std::in_range<index>(values->size()))
        return failure{.code = errc::size_overflow,
                       .detail = "the number of elements",
                       .actual = values->size()};
    Mdspan made{values->data(), typename Mdspan::extents_type{extents}};
    if (!detail::is_row_major(made))
        return failure{.code = errc::shape_mismatch,
                       .detail = "the mdspan's layout is not row-major"};
    return made;
}

/// Lets plans write directly into an mdspan. If it is not row-major, bytes() is empty and fusing
/// fails with wrong_buffer_size.
template <mdspan_type Mdspan>
    requires(!std::is_const_v<typename Mdspan::element_type>)
struct tensor_traits<Mdspan> {
    /// @{
    /// Members required by tensor_traits.
    static span<std::byte> bytes(Mdspan& values) noexcept {
        if (!detail::is_row_major(values)) return {};
        std::size_t count = 1;
        for (std::size_t axis = 0; axis < detail::mdspan_rank<Mdspan>; ++axis)
            count *= static_cast<std::size_t>(values.extent(axis));
        return {reinterpret_cast<std::byte*>(values.data_handle()),
                count * sizeof *values.data_handle()};
    }
    static dtype type(const Mdspan&) noexcept { return dtype_of<typename Mdspan::element_type>; }
    static auto shape(const Mdspan& values) noexcept {
        std::array<std::uint64_t, detail::mdspan_rank<Mdspan>> extents{};
        for (std::size_t axis = 0; axis < extents.size(); ++axis)
            extents[axis] = static_cast<std::uint64_t>(values.extent(axis));
        return extents;
    }
    /// @}
};

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
