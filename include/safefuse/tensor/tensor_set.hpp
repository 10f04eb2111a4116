// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: what a plan asks of the tensors it fuses. A checkpoint is a tensor set; so are a tensor
// file and tensors already in memory.
#ifndef SAFEFUSE_TENSOR_TENSOR_SET_HPP
#define SAFEFUSE_TENSOR_TENSOR_SET_HPP

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <string_view>
#include <utility>

#include <safefuse/core/detail/checked.hpp>
#include <safefuse/core/detail/plain.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/tensor/byte_source.hpp>
#include <safefuse/tensor/tensor_view.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// Where a tensor's bytes are: in which source of the set (for a checkpoint: which file), and at
/// which offset.
struct tensor_location {
    std::uint32_t source = 0;      ///< index of the source in the set
    std::uint64_t offset = 0;      ///< first byte, in the source
    std::uint64_t size_bytes = 0;  ///< size of the tensor
};

/// Named tensors and access to their bytes. Tensors are numbered from 0, and so are the sources
/// that contain their bytes.
///   spec          name, dtype and shape of tensor i, valid as long as the set
///   place         where its bytes lie
///   source_name   for messages: the path of a file, say
///   source_bytes  all bytes of a source, or an empty span where they must be read
///   read          fills `out` from a source's byte `offset`
/// A plan points to its set, which must then neither move nor end before the plan. A set that may
/// move has one more member:
///   stable_view   a tensor set that stays valid when this one moves; trivially copyable, no larger
///   than two pointers. Plans hold
///                 it in place of the set. Checkpoints, tensor files and `tensor_list` have it.
template <class Set>
concept tensor_set = requires(const Set& set, std::size_t i, std::uint32_t source,
                              std::uint64_t offset, span<std::byte> out) {
    { set.size() } noexcept -> std::same_as<std::size_t>;
    { set.spec(i) } noexcept -> std::same_as<tensor_spec>;
    { set.place(i) } noexcept -> std::same_as<tensor_location>;
    { set.source_name(source) } noexcept -> std::same_as<std::string_view>;
    { set.source_bytes(source) } noexcept -> detail::lent_bytes;
    { set.read(source, offset, out) } -> std::same_as<result<void>>;
    requires noexcept(set.read(source, offset, out)) || requires {
        { set.read(source, offset, {}) } noexcept;
    };  // {}: see byte_source
};

namespace detail {

/// A tensor set that may move while others refer to it.
template <class Set>
concept movable_tensor_set = requires(const Set& set) {
    { set.stable_view() } noexcept -> tensor_set;
    requires __is_trivially_copyable(decltype(set.stable_view())) &&
                 sizeof(set.stable_view()) <= 2 * sizeof(void*);
};

}  // namespace detail

/// A reference to any tensor set. With it, planning is compiled once and not once per set type.
///   lifetime  the set must outlive the reference; only a set with `stable_view()` may move
///             meanwhile
class tensor_set_ref {
public:
    /// Any tensor set converts.
    template <tensor_set Set>
        requires(!std::same_as<Set, tensor_set_ref>)
    tensor_set_ref(const Set& set SAFEFUSE_LIFETIMEBOUND) noexcept : calls_{&calls_of<Set>} {
        static_assert(
            detail::movable_tensor_set<Set> || !requires { set.stable_view(); },
            "safefuse: a stable_view() is a noexcept tensor_set, trivially copyable and no larger "
            "than two pointers");
        if constexpr (detail::movable_tensor_set<Set>)
            new (held_) auto(set.stable_view());
        else
            new (held_) const Set*(&set);
    }
    /// Deleted: the reference would dangle.
    template <tensor_set Set>
        requires(!std::same_as<Set, tensor_set_ref>)
    tensor_set_ref(const Set&&) = delete;
    /// What a call with a result gets that nobody looked at: a sentence.
    template <class T>
    tensor_set_ref(const result<T>&) noexcept {  // NOLINT
        static_assert(
            !std::same_as<T, T>,
            "safefuse: the set is a result: check whether it failed, then pass its value, *set");
    }

    /// @{
    /// Like the members of these names in the set.
    [[nodiscard]] std::size_t size() const noexcept { return calls_->size(held_); }
    [[nodiscard]] tensor_spec spec(std::size_t i) const noexcept { return calls_->spec(held_, i); }
    [[nodiscard]] tensor_location place(std::size_t i) const noexcept {
        return calls_->place(held_, i);
    }
    [[nodiscard]] std::string_view source_name(std::uint32_t source) const noexcept {
        return calls_->source_name(held_, source);
    }
    [[nodiscard]] span<const std::byte> source_bytes(std::uint32_t source) const noexcept {
        return calls_->source_bytes(held_, source);
    }
    [[nodiscard]] result<void> read(std::uint32_t source, std::uint64_t offset,
                                    span<std::byte> out) const noexcept {
        return calls_->read(held_, source, offset, out);
    }
    /// @}
    /// Passes a hint to sets that have `advise(source, offset, size_bytes, advice)`. Other sets
    /// ignore it.
    void advise(std::uint32_t source, std::uint64_t offset, std::uint64_t size_bytes,
                advice hint) const noexcept {
        calls_->advise(held_, source, offset, size_bytes, hint);
    }
    /// Calls `check(source)` of sets that have it: whether a source is unchanged. Call it before
    /// copying many bytes from memory, because copying from a mapped file that was truncated raises
    /// a signal and not a failure. For other sets it always succeeds.
    ///   fails   as the check of the set: file_changed
    [[nodiscard]] result<void> check(std::uint32_t source) const noexcept {
        return calls_->check(held_, source);
    }
    /// The native handle of a source's open file, from sets that have `native_handle(source)`;
    /// otherwise no_native_handle.
    [[nodiscard]] std::intptr_t native_handle(std::uint32_t source) const noexcept {
        return calls_->native_handle(held_, source);
    }

private:
    struct calls {
        std::size_t (*size)(const void*) noexcept;
        tensor_spec (*spec)(const void*, std::size_t) noexcept;
        tensor_location (*place)(const void*, std::size_t) noexcept;
        std::string_view (*source_name)(const void*, std::uint32_t) noexcept;
        span<const std::byte> (*source_bytes)(const void*, std::uint32_t) noexcept;
        result<void> (*read)(const void*, std::uint32_t, std::uint64_t, span<std::byte>) noexcept;
        void (*advise)(const void*, std::uint32_t, std::uint64_t, std::uint64_t, advice) noexcept;
        result<void> (*check)(const void*, std::uint32_t) noexcept;
        std::intptr_t (*native_handle)(const void*, std::uint32_t) noexcept;
    };

    /// The referenced set, or its stable view.
    template <class Set>
    static const auto& as(const void* held) noexcept {
        if constexpr (detail::movable_tensor_set<Set>)
            return *static_cast<const decltype(std::declval<const Set&>().stable_view())*>(held);
        else
            return **static_cast<const Set* const*>(held);
    }

    template <class Set>
    static constexpr calls calls_of{
        [](const void* held) noexcept { return as<Set>(held).size(); },
        [](const void* held, std::size_t i) noexcept { return as<Set>(held).spec(i); },
        [](const void* held, std::size_t i) noexcept { return as<Set>(held).place(i); },
        [](const void* held, std::uint32_t source) noexcept {
            return as<Set>(held).source_name(source);
        },
        [](const void* held, std::uint32_t source) noexcept -> span<const std::byte> {
            return as<Set>(held).source_bytes(source);
        },
        [](const void* held, std::uint32_t source, std::uint64_t offset,
           span<std::byte> out) noexcept { return as<Set>(held).read(source, offset, out); },
        []([[maybe_unused]] const void* held, [[maybe_unused]] std::uint32_t source,
           [[maybe_unused]] std::uint64_t offset, [[maybe_unused]] std::uint64_t size_bytes,
           [[maybe_unused]] advice hint) noexcept {
            if constexpr (requires { as<Set>(held).advise(source, offset, size_bytes, hint); })
                as<Set>(held).advise(source, offset, size_bytes, hint);
        },
        []([[maybe_unused]] const void* held,
           [[maybe_unused]] std::uint32_t source) noexcept -> result<void> {
            if constexpr (requires { as<Set>(held).check(source); })
                return as<Set>(held).check(source);
            else
                return {};
        },
        []([[maybe_unused]] const void* held,
           [[maybe_unused]] std::uint32_t source) noexcept -> std::intptr_t {
            if constexpr (requires { as<Set>(held).native_handle(source); })
                return as<Set>(held).native_handle(source);
            else
                return no_native_handle;
        },
    };

    // a pointer to the set, or its stable view
    alignas(void*) unsigned char held_[2 * sizeof(void*)]{};
    const calls* calls_;
};

namespace detail {

/// Checks that a source in memory, whose bytes are `resident`, has `size` bytes from `offset` on.
///   fails   read_past_end
[[nodiscard]] SAFEFUSE_NOINLINE inline result<void> check_resident(const tensor_set_ref& set,
                                                                   std::uint32_t source,
                                                                   span<const std::byte> resident,
                                                                   std::uint64_t offset,
                                                                   std::uint64_t size) noexcept {
    if (lies_inside(offset, size, resident.size())) return {};
    return failure{.code = errc::read_past_end,
                   .file = text{set.source_name(source)},
                   .offset = offset,
                   .expected = size,
                   .actual = resident.size()};
}

/// A tensor set that owns what a plan points to.
template <class Set>
concept owning_tensor_set = tensor_set<Set> && !std::same_as<Set, tensor_set_ref>;

/// Checks each source once before its bytes in memory are used. Tensor names may be among these
/// bytes.
class source_check {
public:
    explicit source_check(const tensor_set_ref& set) noexcept : set_{set} {}

    SAFEFUSE_NOINLINE result<void> before(std::uint32_t source) noexcept {
        if (source == checked_) return {};
        checked_ = source;
        return set_.check(source);
    }
    /// Makes the next call check again, after many bytes were copied.
    void forget() noexcept { checked_ = no_index; }

private:
    const tensor_set_ref& set_;
    std::uint32_t checked_ = no_index;
};

}  // namespace detail

/// A tensor in memory and its name.
struct named_tensor {
    std::string_view name;  ///< full name
    tensor_view tensor;     ///< dtype, shape and bytes
};

/// Tensors in memory as a tensor set. Each tensor is a source of its own.
///   lifetime  the caller keeps the tensors, the names and the viewed bytes alive as long as a plan
///             uses them; the list itself may be destroyed
class tensor_list {
public:
    /// A set of these tensors, in this order.
    ///   lifetime  nothing is copied
    explicit tensor_list(span<const named_tensor> tensors SAFEFUSE_LIFETIMEBOUND) noexcept
        : tensors_{tensors} {}
    /// Tensors whose list ends with the expression are none to keep.
    template <class List>
        requires detail::ending_owner<List, named_tensor>
    explicit tensor_list(List&&) = delete;

    /// @{
    /// Members required by tensor_set.
    ///   fails   read: read_past_end
    [[nodiscard]] tensor_list stable_view() const noexcept { return *this; }
    [[nodiscard]] std::size_t size() const noexcept { return tensors_.size(); }
    [[nodiscard]] tensor_spec spec(std::size_t i) const noexcept {
        return {tensors_[i].name, tensors_[i].tensor.type(), tensors_[i].tensor.shape()};
    }
    [[nodiscard]] tensor_location place(std::size_t i) const noexcept {
        return {static_cast<std::uint32_t>(i), 0, tensors_[i].tensor.size_bytes()};
    }
    [[nodiscard]] std::string_view source_name(std::uint32_t) const noexcept { return {}; }
    [[nodiscard]] span<const std::byte> source_bytes(std::uint32_t source) const noexcept {
        return tensors_[source].tensor.bytes();
    }
    [[nodiscard]] result<void> read(std::uint32_t source, std::uint64_t offset,
                                    span<std::byte> out) const noexcept {
        return memory_source{source_bytes(source)}.read(offset, out);
    }
    /// @}

private:
    span<const named_tensor> tensors_;
};

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
