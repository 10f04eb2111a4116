// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: runs a plan into memory. Each byte is copied once. Sources that must be read use one
// buffer of at most fuse_buffer_bytes for strided copies and equality checks; nothing else needs a
// buffer.
#ifndef SAFEFUSE_RUN_FUSE_HPP
#define SAFEFUSE_RUN_FUSE_HPP

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include <safefuse/core/config.hpp>
#include <safefuse/core/detail/checked.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/plan/copy_plan.hpp>
#include <safefuse/run/detail/execute.hpp>
#include <safefuse/tensor/dtype.hpp>
#include <safefuse/tensor/tensor_traits.hpp>
#include <safefuse/tensor/tensor_view.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// Most memory in bytes that fusing takes beside the output.
inline constexpr std::size_t fuse_buffer_bytes = detail::read_buffer_bytes;

/// Buffers for all outputs of a plan in any other container type: a std::span or vector of buffers,
/// for example, or a vector of vectors.
template <class Buffers>
concept buffer_list =
    !std::convertible_to<Buffers&, span<const span<std::byte>>> && requires(Buffers& buffers) {
        { span{buffers}[0] } -> std::convertible_to<span<std::byte>>;
    };

/// Fuses all outputs of a plan at once and reads the sources front to back. `buffers[i]` is for
/// plan.outputs()[i]; an empty buffer skips that output.
///   fails   wrong_buffer_size (nothing is written then), file_changed (the size of a mapped file
///           changed; each is checked once, before its first byte is copied), parts_differ (the
///           plan's equal_blocks differ), and as reading the sources does (buffers may be partly
///           written)
inline result<void> fuse(const copy_plan& plan, span<const span<std::byte>> buffers) noexcept {
    if (auto fit = detail::check_buffers(plan, buffers); !fit) return fit;
    return detail::run_plan(plan, detail::output_memory{buffers});
}
/// Overload for other containers of buffers.
///   fails   as the overload above; out_of_memory
template <buffer_list Buffers>
result<void> fuse(const copy_plan& plan, Buffers&& buffers) noexcept {
    vector<span<std::byte>> list;
    for (auto& each : span{buffers})
        if (!list.push(each)) return failure{.code = errc::out_of_memory};
    return fuse(plan, list.view());
}

/// Fuses one output of a plan. `out` must have exactly its size.
///   fails   output_not_found, wrong_buffer_size (nothing is written then), and as reading the
///           sources does (`out` may be partly written)
inline result<void> fuse(const copy_plan& plan, std::string_view local_name,
                         span<std::byte> out) noexcept {
    const auto output = plan.output(local_name);
    if (!output) return output.error();
    if (out.size() != output->size_bytes)
        return failure{.code = errc::wrong_buffer_size,
                       .tensor = text{output->name},
                       .expected = output->size_bytes,
                       .actual = out.size()};
    const auto number = static_cast<std::uint32_t>(plan.index_of(local_name));
    return detail::run_plan(plan, {number, out.data()});
}

/// Fuses one output of a plan into a framework's tensor, whose dtype and shape must be the
/// output's.
///   fails   dtype_mismatch, shape_mismatch (nothing is written then), and as the overload above
template <writable_tensor T>
result<void> fuse(const copy_plan& plan, std::string_view local_name, T& tensor) noexcept {
    const auto output = plan.output(local_name);
    if (!output) return output.error();
    if (tensor_traits<T>::type(tensor) != output->type)
        return failure{.code = errc::dtype_mismatch,
                       .tensor = text{output->name},
                       .detail = text{name(output->type)}};
    const auto& shape = tensor_traits<T>::shape(tensor);
    if (!detail::same_shape(shape, output->shape))
        return failure{.code = errc::shape_mismatch,
                       .tensor = text{output->name},
                       .detail = "the tensor to fuse into has another shape"};
    return fuse(plan, local_name, span<std::byte>{tensor_traits<T>::bytes(tensor)});
}
/// Chosen for all other types. Its static_assert explains what is missing, instead of a list of
/// candidates.
template <class T>
    requires(!writable_tensor<T> && !std::convertible_to<T&, span<std::byte>>)
result<void> fuse(const copy_plan&, std::string_view, T&) noexcept {
    static_assert(
        writable_tensor<T>,
        "safefuse: fuse writes to a span, vector or array of std::byte, or to a type that "
        "tensor_traits is specialised for");
    return {};
}

/// A view of an output that is contiguous in a source in memory and needs no copy: fused already,
/// or a single expert's matrix.
///   lifetime  the view's bytes belong to the source, its shape to the plan
///   fails   output_not_found, not_resident (the output must be assembled or read)
[[nodiscard]] inline result<tensor_view> view(const copy_plan& plan SAFEFUSE_LIFETIMEBOUND,
                                              std::string_view local_name) noexcept {
    const auto output = plan.output(local_name);
    if (!output) return output.error();
    if (output->size_bytes == 0) return tensor_view::of(output->type, output->shape, {});
    const copy_block* const run = plan.single_run(plan.index_of(local_name));
    const span<const std::byte> resident =
        run == nullptr ? span<const std::byte>{} : plan.set().source_bytes(run->source);
    if (resident.empty() ||
        !detail::lies_inside(run->source_offset, run->run_bytes, resident.size()))
        return failure{.code = errc::not_resident, .tensor = text{output->name}};
    return tensor_view::of(output->type, output->shape,
                           resident.subspan(static_cast<std::size_t>(run->source_offset),
                                            static_cast<std::size_t>(run->run_bytes)));
}

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
