// safefuse: what a plan asks of the tensors it fuses. A checkpoint is a tensor set; so are tensors already in memory.
#ifndef SAFEFUSE_TENSOR_SET_HPP
#define SAFEFUSE_TENSOR_SET_HPP

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include <safefuse/byte_source.hpp>
#include <safefuse/result.hpp>
#include <safefuse/sequence.hpp>
#include <safefuse/tensor_view.hpp>

namespace safefuse::inline SAFEFUSE_ABI {

/// Where a tensor's bytes lie: in which source of the set (for a checkpoint, which file), from which byte of it on.
struct tensor_place {
    std::uint32_t source = 0;      ///< number of the source in the set
    std::uint64_t offset = 0;      ///< first byte, in the source
    std::uint64_t size_bytes = 0;  ///< of the tensor
};

/// Named tensors and a way to their bytes. Tensors are numbered from 0; so are the sources that hold their bytes.
///   spec          name, dtype and shape of tensor i, valid as long as the set
///   place         where its bytes lie
///   source_name   for messages: the path of a file, say
///   source_bytes  all bytes of a source, or an empty span where they must be read
///   read          fills `out` from a source's byte `offset`
template <class Set>
concept tensor_set =
    requires(const Set& set, std::size_t i, std::uint32_t source, std::uint64_t offset, sequence<std::byte> out) {
        { set.size() } noexcept -> std::same_as<std::size_t>;
        { set.spec(i) } noexcept -> std::same_as<tensor_spec>;
        { set.place(i) } noexcept -> std::same_as<tensor_place>;
        { set.source_name(source) } noexcept -> std::same_as<std::string_view>;
        { set.source_bytes(source) } noexcept -> detail::lent_bytes;
        { set.read(source, offset, out) } -> std::same_as<result<void>>;
        requires noexcept(set.read(source, offset, out)) || requires {
            { set.read(source, offset, {}) } noexcept;
        };  // as of byte_source
    };

/// A reference to any tensor set, so that planning is compiled once and not for each kind of set.
///   lifetime  the set must outlive it, and must not move
class tensor_set_ref {
public:
    /// Any tensor set converts.
    template <tensor_set Set>
        requires(!std::same_as<Set, tensor_set_ref>)
    tensor_set_ref(const Set& set SAFEFUSE_LIFETIMEBOUND) noexcept : set_{&set}, calls_{&calls_of<Set>} {}  // NOLINT
    /// A set that ends with the expression is none to refer to.
    template <tensor_set Set>
        requires(!std::same_as<Set, tensor_set_ref>)
    tensor_set_ref(const Set&&) = delete;

    /// @{
    /// As the set's own.
    [[nodiscard]] std::size_t size() const noexcept { return calls_->size(set_); }
    [[nodiscard]] tensor_spec spec(std::size_t i) const noexcept { return calls_->spec(set_, i); }
    [[nodiscard]] tensor_place place(std::size_t i) const noexcept { return calls_->place(set_, i); }
    [[nodiscard]] std::string_view source_name(std::uint32_t source) const noexcept { return calls_->source_name(set_, source); }
    [[nodiscard]] sequence<const std::byte> source_bytes(std::uint32_t source) const noexcept {
        return calls_->source_bytes(set_, source);
    }
    [[nodiscard]] result<void> read(std::uint32_t source, std::uint64_t offset, sequence<std::byte> out) const noexcept {
        return calls_->read(set_, source, offset, out);
    }
    /// @}
    /// Passes a hint on to sets that have `advise(source, offset, size_bytes, advice)`; nothing happens with others.
    void advise(std::uint32_t source, std::uint64_t offset, std::uint64_t size_bytes, advice hint) const noexcept {
        calls_->advise(set_, source, offset, size_bytes, hint);
    }
    /// Asks sets that have `check(source)` whether a source is still what it was, before much is copied from its bytes in memory:
    /// of a mapped file that was cut short, copying is a signal and not a failure. Nothing is asked of others.
    ///   fails   as the set's check: file_changed
    [[nodiscard]] result<void> check(std::uint32_t source) const noexcept { return calls_->check(set_, source); }
    /// The system's number of the open file that a source is, from sets that have `native_handle(source)`; else no_native_handle.
    [[nodiscard]] std::intptr_t native_handle(std::uint32_t source) const noexcept { return calls_->native_handle(set_, source); }

private:
    struct calls {
        std::size_t (*size)(const void*) noexcept;
        tensor_spec (*spec)(const void*, std::size_t) noexcept;
        tensor_place (*place)(const void*, std::size_t) noexcept;
        std::string_view (*source_name)(const void*, std::uint32_t) noexcept;
        sequence<const std::byte> (*source_bytes)(const void*, std::uint32_t) noexcept;
        result<void> (*read)(const void*, std::uint32_t, std::uint64_t, sequence<std::byte>) noexcept;
        void (*advise)(const void*, std::uint32_t, std::uint64_t, std::uint64_t, advice) noexcept;
        result<void> (*check)(const void*, std::uint32_t) noexcept;
        std::intptr_t (*native_handle)(const void*, std::uint32_t) noexcept;
    };

    template <class Set>
    static const Set& as(const void* set) noexcept {
        return *static_cast<const Set*>(set);
    }

    template <class Set>
    static constexpr calls calls_of{
        [](const void* set) noexcept { return as<Set>(set).size(); },
        [](const void* set, std::size_t i) noexcept { return as<Set>(set).spec(i); },
        [](const void* set, std::size_t i) noexcept { return as<Set>(set).place(i); },
        [](const void* set, std::uint32_t source) noexcept { return as<Set>(set).source_name(source); },
        [](const void* set, std::uint32_t source) noexcept -> sequence<const std::byte> {
            return as<Set>(set).source_bytes(source);
        },
        [](const void* set, std::uint32_t source, std::uint64_t offset, sequence<std::byte> out) noexcept {
            return as<Set>(set).read(source, offset, out);
        },
        []([[maybe_unused]] const void* set, [[maybe_unused]] std::uint32_t source, [[maybe_unused]] std::uint64_t offset,
           [[maybe_unused]] std::uint64_t size_bytes, [[maybe_unused]] advice hint) noexcept {
            if constexpr (requires { as<Set>(set).advise(source, offset, size_bytes, hint); })
                as<Set>(set).advise(source, offset, size_bytes, hint);
        },
        []([[maybe_unused]] const void* set, [[maybe_unused]] std::uint32_t source) noexcept -> result<void> {
            if constexpr (requires { as<Set>(set).check(source); })
                return as<Set>(set).check(source);
            else
                return {};
        },
        []([[maybe_unused]] const void* set, [[maybe_unused]] std::uint32_t source) noexcept -> std::intptr_t {
            if constexpr (requires { as<Set>(set).native_handle(source); })
                return as<Set>(set).native_handle(source);
            else
                return no_native_handle;
        },
    };

    const void* set_;
    const calls* calls_;
};

namespace detail {

/// A tensor set that owns what a plan would point to.
template <class Set>
concept owning_tensor_set = tensor_set<Set> && !std::same_as<Set, tensor_set_ref>;

/// Asks once about each source before its bytes in memory, or the names that may lie among them, are used.
class source_check {
public:
    explicit source_check(const tensor_set_ref& set) noexcept : set_{set} {}

    SAFEFUSE_OUT_OF_LINE result<void> before(std::uint32_t source) noexcept {
        if (source == checked_) return {};
        checked_ = source;
        return set_.check(source);
    }
    /// Much has been copied since: asks again.
    void forget() noexcept { checked_ = none; }

private:
    static constexpr std::uint32_t none = ~std::uint32_t{0};

    const tensor_set_ref& set_;
    std::uint32_t checked_ = none;
};

}  // namespace detail

/// A tensor in memory and its name.
struct named_tensor {
    std::string_view name;  ///< full name
    tensor_view tensor;     ///< dtype, shape and bytes
};

/// Tensors in memory as a tensor set: each is a source of its own.
///   lifetime  the list, the names and what the views point to belong to the caller
class tensor_list {
public:
    /// The tensors in the order given.
    ///   lifetime  nothing is copied
    explicit tensor_list(sequence<const named_tensor> tensors SAFEFUSE_LIFETIMEBOUND) noexcept : tensors_{tensors} {}

    /// @{
    /// What tensor_set asks for.
    ///   fails   read: read_past_end
    [[nodiscard]] std::size_t size() const noexcept { return tensors_.size(); }
    [[nodiscard]] tensor_spec spec(std::size_t i) const noexcept {
        return {tensors_[i].name, tensors_[i].tensor.type(), tensors_[i].tensor.shape()};
    }
    [[nodiscard]] tensor_place place(std::size_t i) const noexcept {
        return {static_cast<std::uint32_t>(i), 0, tensors_[i].tensor.size_bytes()};
    }
    [[nodiscard]] std::string_view source_name(std::uint32_t) const noexcept { return {}; }
    [[nodiscard]] sequence<const std::byte> source_bytes(std::uint32_t source) const noexcept {
        return tensors_[source].tensor.bytes();
    }
    [[nodiscard]] result<void> read(std::uint32_t source, std::uint64_t offset, sequence<std::byte> out) const noexcept {
        return memory_source{source_bytes(source)}.read(offset, out);
    }
    /// @}

private:
    sequence<const named_tensor> tensors_;
};

}  // namespace safefuse::inline SAFEFUSE_ABI

#endif
