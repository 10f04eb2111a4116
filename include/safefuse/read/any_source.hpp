// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: one type for all byte sources, so that files of different sources can be in one list.
#ifndef SAFEFUSE_READ_ANY_SOURCE_HPP
#define SAFEFUSE_READ_ANY_SOURCE_HPP

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>

#include <safefuse/core/detail/plain.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/tensor/byte_source.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// A byte source of any type: mapped_file, positional_file, memory_source, or the caller's own. It
/// owns the source and can be moved. A moved-from any_source may only be assigned to or destroyed.
class any_source {
public:
    /// Takes ownership of a source. The source is moved once, to memory that any_source allocates,
    /// and stays there.
    ///   fails   out_of_memory; the source is then destroyed
    template <byte_source Source>
        requires(!std::same_as<Source, any_source>)
    static result<any_source> of(Source source) noexcept {
        any_source made;
        made.held_ = new (std::nothrow) Source(std::move(source));
        if (made.held_ == nullptr) return detail::lack_of_memory{};
        made.calls_ = &calls_of<Source>;
        return made;
    }
    /// `other` may then only be assigned to or destroyed.
    any_source(any_source&& other) noexcept
        : held_{detail::exchange(other.held_, nullptr)}, calls_{other.calls_} {}
    /// Destroys the present source. `other` may then only be assigned to or destroyed.
    any_source& operator=(any_source&& other) noexcept {
        any_source taken{std::move(other)};
        detail::swap(held_, taken.held_);
        detail::swap(calls_, taken.calls_);
        return *this;
    }
    ~any_source() {
        if (held_ != nullptr) calls_->destroy(held_);
    }

    /// @{
    /// Like the members of these names in the source.
    [[nodiscard]] std::uint64_t size_bytes() const noexcept { return calls_->size_bytes(held_); }
    [[nodiscard]] span<const std::byte> bytes() const& noexcept SAFEFUSE_LIFETIMEBOUND {
        return calls_->bytes(held_);
    }
    span<const std::byte> bytes() const&& = delete;
    [[nodiscard]] result<void> read(std::uint64_t offset, span<std::byte> out) const noexcept {
        return calls_->read(held_, offset, out);
    }
    void advise(std::uint64_t offset, std::uint64_t size_bytes, advice hint) const noexcept {
        calls_->advise(held_, offset, size_bytes, hint);
    }
    /// @}
    /// @{
    /// Like the members of these names in the source. If the source lacks them: no_native_handle,
    /// success, and no effect.
    [[nodiscard]] std::intptr_t native_handle() const noexcept {
        return calls_->native_handle(held_);
    }
    [[nodiscard]] result<void> check_size() const noexcept { return calls_->check_size(held_); }
    void close_handle() noexcept { calls_->close_handle(held_); }
    /// @}

private:
    struct calls {
        std::uint64_t (*size_bytes)(const void*) noexcept;
        span<const std::byte> (*bytes)(const void*) noexcept;
        result<void> (*read)(const void*, std::uint64_t, span<std::byte>) noexcept;
        void (*advise)(const void*, std::uint64_t, std::uint64_t, advice) noexcept;
        std::intptr_t (*native_handle)(const void*) noexcept;
        result<void> (*check_size)(const void*) noexcept;
        void (*close_handle)(void*) noexcept;
        void (*destroy)(void*) noexcept;
    };

    template <class Source>
    static const Source& as(const void* held) noexcept {
        return *static_cast<const Source*>(held);
    }

    template <class Source>
    static constexpr calls calls_of{
        [](const void* held) noexcept -> std::uint64_t { return as<Source>(held).size_bytes(); },
        [](const void* held) noexcept -> span<const std::byte> { return as<Source>(held).bytes(); },
        [](const void* held, std::uint64_t offset, span<std::byte> out) noexcept -> result<void> {
            return as<Source>(held).read(offset, out);
        },
        [](const void* held, std::uint64_t offset, std::uint64_t size_bytes, advice hint) noexcept {
            as<Source>(held).advise(offset, size_bytes, hint);
        },
        []([[maybe_unused]] const void* held) noexcept -> std::intptr_t {
            if constexpr (requires { as<Source>(held).native_handle(); })
                return as<Source>(held).native_handle();
            else
                return no_native_handle;
        },
        []([[maybe_unused]] const void* held) noexcept -> result<void> {
            if constexpr (requires { as<Source>(held).check_size(); })
                return as<Source>(held).check_size();
            else
                return {};
        },
        []([[maybe_unused]] void* held) noexcept {
            if constexpr (requires(Source& source) { source.close_handle(); })
                static_cast<Source*>(held)->close_handle();
        },
        [](void* held) noexcept { delete static_cast<Source*>(held); },
    };

    any_source() noexcept = default;

    void* held_ = nullptr;
    const calls* calls_ = nullptr;
};

static_assert(byte_source<any_source>);

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
