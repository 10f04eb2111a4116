// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: memory for outputs that is fast to fill while it is fresh. What fuse writes to may be
// any memory; this is for callers who have none of their own yet.
#ifndef SAFEFUSE_IO_HUGE_PAGE_BUFFER_HPP
#define SAFEFUSE_IO_HUGE_PAGE_BUFFER_HPP

#include <cstddef>
#include <cstdint>

#include <safefuse/core/config.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/io/detail/os_memory.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// Owns bytes that begin at a page's start and are 0 at first. On Linux they are asked for in huge
/// pages, which are several times faster to touch for the first time; elsewhere they are plain
/// pages.
class huge_page_buffer {
public:
    /// No bytes.
    huge_page_buffer() noexcept = default;
    /// The other is then empty; pointers into the memory stay valid.
    huge_page_buffer(huge_page_buffer&& other) noexcept
        : pages_{other.pages_}, size_bytes_{other.size_bytes_} {
        other.forget();
    }
    /// What was held is given back; the other is then empty.
    huge_page_buffer& operator=(huge_page_buffer&& other) noexcept {
        if (this != &other) {
            give_back();
            pages_ = other.pages_;
            size_bytes_ = other.size_bytes_;
            other.forget();
        }
        return *this;
    }
    ~huge_page_buffer() { give_back(); }

    /// Memory for so many bytes; 0 is no memory and no failure.
    ///   fails   out_of_memory
    [[nodiscard]] static result<huge_page_buffer> make(std::uint64_t size_bytes) noexcept {
        huge_page_buffer out;
        if (size_bytes > PTRDIFF_MAX)
            return failure{.code = errc::out_of_memory, .expected = size_bytes};
        out.size_bytes_ = static_cast<std::size_t>(size_bytes);
        if (size_bytes == 0) return out;
        if (const auto came = detail::os::allocate_pages(out.size_bytes_, out.pages_); !came)
            return failure{.code = came.code, .expected = size_bytes, .os_error = came.os_error};
        return out;
    }

    /// @{
    /// All of the memory.
    ///   lifetime  ends with the buffer; a move keeps it
    [[nodiscard]] span<std::byte> bytes() noexcept SAFEFUSE_LIFETIMEBOUND {
        return {pages_.data, size_bytes_};
    }
    [[nodiscard]] span<const std::byte> bytes() const noexcept SAFEFUSE_LIFETIMEBOUND {
        return {pages_.data, size_bytes_};
    }
    /// @}
    /// How many bytes were asked for.
    [[nodiscard]] std::size_t size_bytes() const noexcept { return size_bytes_; }
    /// Whether the system took the wish for huge pages. It may still have none free, and uses plain
    /// ones then.
    [[nodiscard]] bool asked_for_huge_pages() const noexcept { return pages_.are_huge; }

private:
    void give_back() noexcept {
        if (pages_.data != nullptr) detail::os::free_pages(pages_);
    }
    void forget() noexcept {
        pages_ = {};
        size_bytes_ = 0;
    }

    detail::os::pages pages_;
    std::size_t size_bytes_ = 0;
};

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
