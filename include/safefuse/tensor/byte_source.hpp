// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: where the bytes of a tensor file come from: a mapping, positional reads, or the
// caller's memory.
#ifndef SAFEFUSE_TENSOR_BYTE_SOURCE_HPP
#define SAFEFUSE_TENSOR_BYTE_SOURCE_HPP

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <type_traits>

#include <safefuse/core/detail/checked.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// What the caller is about to do with a range of bytes. It is a hint and changes no result.
enum class advice : std::uint8_t {
    will_need,  ///< read soon: start reading ahead
    /// not read again by this process: its memory may be freed; the system's page cache is not
    /// affected
    release,
    done_with,   ///< not read again soon by any process: the page cache may also be freed
    sequential,  ///< read once, front to back
};

/// The native handle of a source that has no file.
inline constexpr std::intptr_t no_native_handle = -1;

namespace detail {
/// What a function may return to lend bytes: a span, a std::span or another view, or a reference to
/// a container.
template <class Bytes>
concept lent_bytes = std::is_same_v<Bytes, span<const std::byte>> ||
                     (std::convertible_to<Bytes, span<const std::byte>> &&
                      (std::is_lvalue_reference_v<Bytes> ||
                       std::ranges::enable_borrowed_range<std::remove_cv_t<Bytes>>));
}  // namespace detail

/// Readable bytes of known size. Many threads may call all members at once.
///   size_bytes   the size when the source was opened
///   bytes        all bytes in memory, or an empty span if they must be read. Callers refuse a span
///                shorter than size_bytes(): a source that has only a part in memory must return an
///                empty one
///   read         fills `out` from `offset`; fails with read_past_end, io_error or file_changed,
///                and `out` may then be partly written
///   advise       takes a hint; never fails
template <class Source>
concept byte_source = requires(const Source& source, std::uint64_t offset, std::uint64_t size_bytes,
                               span<std::byte> out) {
    { source.size_bytes() } noexcept -> std::same_as<std::uint64_t>;
    { source.bytes() } noexcept -> detail::lent_bytes;
    { source.read(offset, out) } -> std::same_as<result<void>>;
    // The test passes {} for a std::span parameter, because conversions to std::span differ between
    // standard libraries.
    requires noexcept(source.read(offset, out)) || requires {
        { source.read(offset, {}) } noexcept;
    };
    { source.advise(offset, size_bytes, advice::will_need) } noexcept;
};

/// A byte source that is opened by a file path. Paths are UTF-8 on every system.
template <class Source>
concept file_source = byte_source<Source> && requires(std::string_view path) {
    { Source::open(path) } noexcept -> std::same_as<result<Source>>;
};

/// Bytes that the caller keeps alive.
class memory_source {
public:
    memory_source() noexcept = default;
    /// A source of these bytes.
    ///   lifetime  nothing is copied
    explicit memory_source(span<const std::byte> bytes SAFEFUSE_LIFETIMEBOUND) noexcept
        : bytes_{bytes} {}
    /// Bytes that end with the expression are none to keep.
    template <class Bytes>
        requires detail::ending_owner<Bytes, std::byte>
    explicit memory_source(Bytes&&) = delete;

    /// The number of bytes.
    [[nodiscard]] std::uint64_t size_bytes() const noexcept { return bytes_.size(); }
    /// All bytes.
    [[nodiscard]] span<const std::byte> bytes() const noexcept { return bytes_; }
    /// Copies bytes from `offset` on into `out`.
    ///   fails   read_past_end; `out` is then unchanged
    [[nodiscard]] result<void> read(std::uint64_t offset, span<std::byte> out) const noexcept {
        if (!detail::lies_inside(offset, out.size(), bytes_.size()))
            return failure{.code = errc::read_past_end,
                           .offset = offset,
                           .expected = out.size(),
                           .actual = bytes_.size()};
        if (!out.empty()) std::memcpy(out.data(), bytes_.data() + offset, out.size());
        return {};
    }
    /// Does nothing: memory needs no hints.
    void advise(std::uint64_t, std::uint64_t, advice) const noexcept {}

private:
    span<const std::byte> bytes_;
};

static_assert(byte_source<memory_source>);

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
