// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: memory for outputs that is fast to write for the first time. fuse can write to any
// memory; this is for callers who have not allocated theirs yet.
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

/// Owns memory that starts at a page boundary and is initially zero. On Linux it asks for huge
/// pages, which are several times faster to touch for the first time. On other systems it uses
/// ordinary pages.
class huge_page_buffer {
public:
    /// An empty buffer.
    huge_page_buffer() noexcept = default;
    /// Leaves the other buffer empty. Pointers into the memory stay valid.
    huge_page_buffer(huge_page_buffer&& other) noexcept
        : pages_{other.pages_}, size_bytes_{other.size_bytes_} {
        other.forget();
    }
    /// Frees the current memory and leaves the other buffer empty.
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

    /// Allocates `size_bytes` bytes. 0 bytes is a valid, empty buffer.
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
    ///   lifetime  until the buffer is destroyed; a move keeps it valid
    [[nodiscard]] span<std::byte> bytes() noexcept SAFEFUSE_LIFETIMEBOUND {
        return {pages_.data, size_bytes_};
    }
    [[nodiscard]] span<const std::byte> bytes() const noexcept SAFEFUSE_LIFETIMEBOUND {
        return {pages_.data, size_bytes_};
    }
    /// @}
    /// The number of bytes that were requested.
    [[nodiscard]] std::size_t size_bytes() const noexcept { return size_bytes_; }
    /// Whether the system accepted the request for huge pages. If none are free it still uses
    /// ordinary pages.
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
