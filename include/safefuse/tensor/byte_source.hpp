// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: where a tensor file's bytes come from: a mapping, positional reads, or memory that the
// caller has.
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

/// What the caller is about to do with a range of bytes. A hint: it changes no result.
enum class advice : std::uint8_t {
    will_need,  ///< read soon: start reading ahead
    release,  ///< not read again by this process: its memory may go, the system's page cache keeps
              ///< what it likes
    done_with,   ///< not read again by anybody soon: the page cache may go, too
    sequential,  ///< read once, front to back
};

/// What stands for the file of a source that has none.
inline constexpr std::intptr_t no_native_handle = -1;

namespace detail {
/// What a function returns to lend bytes: a sequence, a std::span or another view of them, or a
/// reference to what holds them.
template <class Bytes>
concept lent_bytes = std::convertible_to<Bytes, span<const std::byte>> &&
                     (std::is_lvalue_reference_v<Bytes> ||
                      std::ranges::enable_borrowed_range<std::remove_cv_t<Bytes>>);
}  // namespace detail

/// Readable bytes of known size. All members may be called from many threads at once.
///   size_bytes   the size when it was opened
///   bytes        all of them in memory, or an empty span where they must be read; fewer than
///   size_bytes() are refused, never
///                trusted: whoever lends a part of a file must lend none of it
///   read         fills `out` from `offset`; fails with read_past_end, io_error, file_changed, and
///   `out` may then be part-written advise       a hint, never a failure
template <class Source>
concept byte_source = requires(const Source& source, std::uint64_t offset, std::uint64_t size_bytes,
                               span<std::byte> out) {
    { source.size_bytes() } noexcept -> std::same_as<std::uint64_t>;
    { source.bytes() } noexcept -> detail::lent_bytes;
    { source.read(offset, out) } -> std::same_as<result<void>>;
    // a std::span as parameter is asked for with {}, since what the conversion to one may do is
    // each standard library's own
    requires noexcept(source.read(offset, out)) || requires {
        { source.read(offset, {}) } noexcept;
    };
    { source.advise(offset, size_bytes, advice::will_need) } noexcept;
};

/// A byte source that is opened by the path of a file; paths are UTF-8 on every system.
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

    /// How many bytes there are.
    [[nodiscard]] std::uint64_t size_bytes() const noexcept { return bytes_.size(); }
    /// All of them.
    [[nodiscard]] span<const std::byte> bytes() const noexcept { return bytes_; }
    /// Copies the bytes from `offset` on into `out`.
    ///   fails   read_past_end; `out` is then untouched
    [[nodiscard]] result<void> read(std::uint64_t offset, span<std::byte> out) const noexcept {
        if (!detail::lies_inside(offset, out.size(), bytes_.size()))
            return failure{.code = errc::read_past_end,
                           .offset = offset,
                           .expected = out.size(),
                           .actual = bytes_.size()};
        if (!out.empty()) std::memcpy(out.data(), bytes_.data() + offset, out.size());
        return {};
    }
    /// Does nothing: memory takes no hints.
    void advise(std::uint64_t, std::uint64_t, advice) const noexcept {}

private:
    span<const std::byte> bytes_;
};

static_assert(byte_source<memory_source>);

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
