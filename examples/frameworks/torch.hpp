// libtorch: fuse into at::Tensors, plan from them, and view tensors of a checkpoint as at::Tensors
// without a copy. Copy what you need.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include <ATen/ATen.h>

#include <safefuse/tensor/tensor_traits.hpp>

namespace adapt {

// In the order of safefuse::dtype. PyTorch stores F4 elements as pairs: its last extent is half of
// ours. PyTorch has no F6.
inline constexpr at::ScalarType torch_types[safefuse::dtype_count] = {at::kBool,
                                                                      at::kFloat4_e2m1fn_x2,
                                                                      at::ScalarType::Undefined,
                                                                      at::ScalarType::Undefined,
                                                                      at::kByte,
                                                                      at::kChar,
                                                                      at::kFloat8_e5m2,
                                                                      at::kFloat8_e4m3fn,
                                                                      at::kFloat8_e8m0fnu,
                                                                      at::kFloat8_e4m3fnuz,
                                                                      at::kFloat8_e5m2fnuz,
                                                                      at::kShort,
                                                                      at::kUInt16,
                                                                      at::kHalf,
                                                                      at::kBFloat16,
                                                                      at::kInt,
                                                                      at::kUInt32,
                                                                      at::kFloat,
                                                                      at::kComplexFloat,
                                                                      at::kDouble,
                                                                      at::kLong,
                                                                      at::kUInt64};

inline bool find_dtype(at::ScalarType wanted, safefuse::dtype& type) {
    for (std::size_t i = 0; i < safefuse::dtype_count; ++i) {
        type = static_cast<safefuse::dtype>(i);
        if (torch_types[i] == wanted) return wanted != at::ScalarType::Undefined;
    }
    return false;
}

/// A view as a tensor, without a copy. The tensor, and all that share its storage, keep `owner`
/// alive, for example the checkpoint.
///   lifetime  without an owner, the bytes must outlive every such tensor; bytes of a mapped file
///             must not be written to
///   fails   unknown_dtype (F6), misaligned, splits_block (an odd last extent of F4)
inline safefuse::result<at::Tensor> torch_tensor(const safefuse::tensor_view& view,
                                                 std::shared_ptr<const void> owner) {
    const at::ScalarType type = torch_types[static_cast<std::size_t>(view.type())];
    if (type == at::ScalarType::Undefined)
        return safefuse::failure{.code = safefuse::errc::unknown_dtype,
                                 .detail = safefuse::name(view.type())};
    if (reinterpret_cast<std::uintptr_t>(view.bytes().data()) % c10::elementSize(type) != 0)
        return safefuse::failure{.code = safefuse::errc::misaligned};
    std::vector<std::int64_t> sizes(view.shape().begin(), view.shape().end());
    if (type == at::kFloat4_e2m1fn_x2) {
        if (sizes.empty() || sizes.back() % 2 != 0)
            return safefuse::failure{.code = safefuse::errc::splits_block};
        sizes.back() /= 2;
    }
    return at::from_blob(
        const_cast<std::byte*>(view.bytes().data()), sizes, [owner = std::move(owner)](void*) {},
        at::TensorOptions{}.dtype(type));
}

}  // namespace adapt

/// A contiguous tensor in host memory, with a dtype of safetensors. Other tensors report no bytes,
/// so using them fails.
template <>
struct safefuse::tensor_traits<at::Tensor> {
    static std::span<std::byte> bytes(at::Tensor& t) {
        dtype type{};
        if (!t.device().is_cpu() || !t.is_contiguous() || !adapt::find_dtype(t.scalar_type(), type))
            return {};
        return {static_cast<std::byte*>(t.data_ptr()), t.nbytes()};
    }
    static dtype type(const at::Tensor& t) {
        dtype type{};
        return adapt::find_dtype(t.scalar_type(), type) ? type : dtype::boolean;
    }
    static std::vector<std::uint64_t> shape(const at::Tensor& t) {
        std::vector<std::uint64_t> extents(t.sizes().begin(), t.sizes().end());
        if (t.scalar_type() == at::kFloat4_e2m1fn_x2 && !extents.empty()) extents.back() *= 2;
        return extents;
    }
};
