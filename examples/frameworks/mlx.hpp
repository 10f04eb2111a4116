// MLX: fuse into evaluated arrays, plan from them, and view tensors of a checkpoint as arrays. Copy
// what you need.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include <mlx/mlx.h>

#include <safefuse/tensor/tensor_traits.hpp>

namespace adapt {

/// Whether MLX has the dtype. MLX keeps F4, F6 and F8 as uint8 and the like, which is not the same.
inline bool mlx_type_of(safefuse::dtype type, mlx::core::Dtype& found) {
    using enum safefuse::dtype;
    switch (type) {
    case boolean: found = mlx::core::bool_; return true;
    case u8: found = mlx::core::uint8; return true;
    case i8: found = mlx::core::int8; return true;
    case i16: found = mlx::core::int16; return true;
    case u16: found = mlx::core::uint16; return true;
    case f16: found = mlx::core::float16; return true;
    case bf16: found = mlx::core::bfloat16; return true;
    case i32: found = mlx::core::int32; return true;
    case u32: found = mlx::core::uint32; return true;
    case f32: found = mlx::core::float32; return true;
    case c64: found = mlx::core::complex64; return true;
    case f64: found = mlx::core::float64; return true;
    case i64: found = mlx::core::int64; return true;
    case u64: found = mlx::core::uint64; return true;
    default: return false;
    }
}
inline bool find_dtype(mlx::core::Dtype wanted, safefuse::dtype& type) {
    for (std::size_t i = 0; i < safefuse::dtype_count; ++i) {
        mlx::core::Dtype found = mlx::core::bool_;
        type = static_cast<safefuse::dtype>(i);
        if (mlx_type_of(type, found) && found == wanted) return true;
    }
    return false;
}

/// A view as an array that keeps `owner` alive as long as it uses the bytes. MLX copies the bytes
/// if it cannot use them in place, for example without a GPU.
///   fails   unknown_dtype (F4, F6, F8), size_overflow (extents over 31 bits), misaligned
inline safefuse::result<mlx::core::array> mlx_array(const safefuse::tensor_view& view,
                                                    std::shared_ptr<const void> owner) {
    mlx::core::Dtype type = mlx::core::bool_;
    if (!mlx_type_of(view.type(), type))
        return safefuse::failure{.code = safefuse::errc::unknown_dtype,
                                 .detail = safefuse::name(view.type())};
    if (reinterpret_cast<std::uintptr_t>(view.bytes().data()) % mlx::core::size_of(type) != 0)
        return safefuse::failure{.code = safefuse::errc::misaligned};
    mlx::core::Shape shape;
    for (const std::uint64_t extent : view.shape()) {
        if (extent > INT32_MAX)
            return safefuse::failure{.code = safefuse::errc::size_overflow, .actual = extent};
        shape.push_back(static_cast<std::int32_t>(extent));
    }
    void* const bytes = const_cast<std::byte*>(view.bytes().data());
    return mlx::core::array(bytes, std::move(shape), type, [owner = std::move(owner)](void*) {});
}

}  // namespace adapt

/// An evaluated array whose rows are contiguous. Other arrays report no bytes, so using them fails.
template <>
struct safefuse::tensor_traits<mlx::core::array> {
    static std::span<std::byte> bytes(mlx::core::array& a) {
        dtype type{};
        if (!a.is_available() || !a.flags().row_contiguous || !adapt::find_dtype(a.dtype(), type))
            return {};
        return {a.data<std::byte>(), a.nbytes()};
    }
    static dtype type(const mlx::core::array& a) {
        dtype type{};
        return adapt::find_dtype(a.dtype(), type) ? type : dtype::boolean;
    }
    static std::vector<std::uint64_t> shape(const mlx::core::array& a) {
        return {a.shape().begin(), a.shape().end()};
    }
};
