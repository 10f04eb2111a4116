// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: runs a plan into memory. Each byte is copied once. If a source must be read, strided
// copies and equality checks use one buffer of at most fuse_buffer_bytes. Nothing else needs a
// buffer.
#ifndef SAFEFUSE_RUN_FUSE_HPP
#define SAFEFUSE_RUN_FUSE_HPP

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>
#include <utility>

#include <safefuse/core/config.hpp>
#include <safefuse/core/detail/checked.hpp>
#include <safefuse/core/progress.hpp>
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

/// Largest amount of memory, in bytes, that fusing needs in addition to the output.
inline constexpr std::size_t fuse_buffer_bytes = detail::read_buffer_bytes;

/// Buffers for all outputs of a plan, in any other container type: for example, a std::span or
/// vector of buffers, or a vector of vectors.
template <class Buffers>
concept buffer_list =
    !std::convertible_to<Buffers&, span<const span<std::byte>>> && requires(Buffers& buffers) {
        { span{buffers}[0] } -> std::convertible_to<span<std::byte>>;
    };

/// What a callable may return as memory: a span of bytes, something that converts to one, or a
/// result of either. A vector by value is refused, because it would be destroyed before a byte is
/// copied.
template <class T>
concept provided_buffer = std::convertible_to<T, span<std::byte>> || requires {
    requires std::same_as<std::remove_cvref_t<T>,
                          result<typename std::remove_cvref_t<T>::value_type>>;
    requires std::convertible_to<typename std::remove_cvref_t<T>::value_type, span<std::byte>>;
};

/// A callable that returns the memory for an output: `buffer_for(output)` returns bytes, or a
/// result of them. The bytes must stay valid until the output is made.
template <class F>
concept buffer_provider = requires(F& buffer_for, const plan_output& output) {
    { buffer_for(output) } -> provided_buffer;
};

namespace detail {

/// A reference to any buffer_provider, so that fusing is compiled once for all provider types.
class buffer_provider_ref {
public:
    template <class F>
    explicit buffer_provider_ref(F& f) noexcept
        // F may be a function, which static_cast cannot convert to void*
        : object_{reinterpret_cast<const void*>(&f)}, call_{&call<F>} {}

    /// The buffer of an output.
    ///   fails   wrong_buffer_size, and as the callable. The failure names the output
    result<span<std::byte>> operator()(const plan_output& output) const {
        auto buffer = call_(object_, output);
        if (buffer && buffer->size() != output.size_bytes)
            buffer = failure{.code = errc::wrong_buffer_size,
                             .expected = output.size_bytes,
                             .actual = buffer->size()};
        if (!buffer && buffer.error().tensor.empty()) buffer.error().tensor = text{output.name};
        return buffer;
    }

private:
    template <class F>
    static result<span<std::byte>> call(const void* object, const plan_output& output) {
        F& f = *reinterpret_cast<F*>(const_cast<void*>(object));  // restores the constness
        if constexpr (std::convertible_to<decltype(f(output)), span<std::byte>>) {
            return span<std::byte>{f(output)};
        } else {
            auto buffer = f(output);
            if (!buffer) return std::move(buffer).error();
            return span<std::byte>{*std::move(buffer)};
        }
    }

    const void* object_;
    result<span<std::byte>> (*call_)(const void*, const plan_output&);
};

/// Requests the buffer of an output and makes the output, one output after the other.
inline result<void> fuse_one_by_one(const copy_plan& plan, const buffer_provider_ref& buffer_for,
                                    const progress_ref& progress) {
    run_watch watch{plan, progress, plan.size_bytes()};
    for (std::uint32_t i = 0; i < plan.outputs().size(); ++i) {
        const auto buffer = buffer_for(plan.outputs()[i]);
        if (!buffer) return buffer.error();
        if (auto done = run_plan(plan, {i, buffer->data()}, watch.if_told()); !done) return done;
    }
    return {};
}

}  // namespace detail

/// Makes all outputs of a plan at once, reading the sources front to back. `buffers[i]` is for
/// plan.outputs()[i]; an empty buffer leaves that output out.
///   fails   wrong_buffer_size (nothing is written), file_changed (the size of a mapped file has
///           changed; each file is checked once, before the first byte is copied from it),
///           parts_differ (equal_blocks of the plan are not equal), canceled (progress returned
///           false), and as reading the sources (buffers may be partly written)
inline result<void> fuse(const copy_plan& plan, span<const span<std::byte>> buffers,
                         progress_ref progress = {}) noexcept {
    if (auto fit = detail::check_buffers(plan, buffers); !fit) return fit;
    const detail::output_memory memory{buffers};
    detail::run_watch watch{plan, progress, detail::bytes_to_make(plan, memory)};
    return detail::run_plan(plan, memory, watch.if_told());
}
/// Overload for other containers of buffers.
///   fails   as the overload above; out_of_memory
template <buffer_list Buffers>
result<void> fuse(const copy_plan& plan, Buffers&& buffers, progress_ref progress = {}) noexcept {
    vector<span<std::byte>> list;
    for (auto& each : span{buffers})
        if (!list.push(each)) return detail::lack_of_memory{};
    return fuse(plan, list.view(), progress);
}

/// Makes all outputs of a plan one by one. For each output, `buffer_for(output)` returns the
/// memory, which must have output.size_bytes bytes. It is called for the next output only after
/// this one is complete, so all outputs may use the same buffer. Exceptions of the callable are
/// passed on.
///   reads   a source that is not in memory: once for each output that has bytes from it
///   fails   wrong_buffer_size (nothing of that output is written), as the callable, and as
///           fuse(plan, buffers). Outputs before the one that failed are complete
template <buffer_provider Provider>
result<void> fuse(const copy_plan& plan, Provider&& buffer_for, progress_ref progress = {}) {
    return detail::fuse_one_by_one(plan, detail::buffer_provider_ref{buffer_for}, progress);
}
/// Chosen for all other types. Its static_assert explains what is missing, without a list of
/// candidates.
template <class T>
    requires(!buffer_list<T> && !buffer_provider<T> &&
             !std::convertible_to<T&, span<const span<std::byte>>> &&
             !std::convertible_to<T&, std::string_view>)
result<void> fuse(const copy_plan&, T&&, progress_ref = {}) noexcept {
    static_assert(buffer_provider<T>,
                  "safefuse: fuse(plan, ...) needs a list of buffers of std::byte, or "
                  "a callable that takes a plan_output and returns one that outlives the call");
    return {};
}

/// Makes one output of a plan. `out` must have exactly the size of the output.
///   fails   output_not_found, wrong_buffer_size (nothing is written), canceled, and as reading the
///           sources (`out` may be partly written)
inline result<void> fuse(const copy_plan& plan, std::string_view local_name, span<std::byte> out,
                         progress_ref progress = {}) noexcept {
    const auto output = plan.output(local_name);
    if (!output) return output.error();
    if (out.size() != output->size_bytes)
        return failure{.code = errc::wrong_buffer_size,
                       .tensor = text{output->name},
                       .expected = output->size_bytes,
                       .actual = out.size()};
    const auto number = static_cast<std::uint32_t>(plan.index_of(local_name));
    detail::run_watch watch{plan, progress, output->size_bytes};
    return detail::run_plan(plan, {number, out.data()}, watch.if_told());
}

/// Fuses one output of a plan into a framework's tensor, whose dtype and shape must be the
/// output's.
///   fails   dtype_mismatch, shape_mismatch (nothing is written), and as the overload above
template <writable_tensor T>
result<void> fuse(const copy_plan& plan, std::string_view local_name, T& tensor,
                  progress_ref progress = {}) noexcept {
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
    return fuse(plan, local_name, span<std::byte>{tensor_traits<T>::bytes(tensor)}, progress);
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

/// Chosen for a result that was not checked. Its static_assert says so.
template <class T, class... Rest>
result<void> fuse(const result<T>&, Rest&&...) noexcept {
    static_assert(
        !detail::is_result<result<T>>,
        "safefuse: fuse was given a result: check whether it failed, then pass its value, *plan");
    return {};
}

/// A view of an output whose bytes are already contiguous in memory: experts that are stored fused,
/// or the matrix of a single expert.
///   lifetime  the bytes of the view belong to the source, its shape to the plan
///   fails   output_not_found, not_resident (the output must be copied or read)
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
