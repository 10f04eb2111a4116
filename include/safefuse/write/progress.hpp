// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: how far a rewrite is, and what memory it takes.
#ifndef SAFEFUSE_WRITE_PROGRESS_HPP
#define SAFEFUSE_WRITE_PROGRESS_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include <safefuse/core/config.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// How far a rewrite is.
struct rewrite_progress {
    std::string_view tensor;    ///< that was just worked on, by its new name
    std::uint64_t done_bytes;   ///< of the new tensors, so far
    std::uint64_t total_bytes;  ///< of the new tensors
};

/// A function that is told of progress and answers whether to go on. It refers to the callable,
/// which must outlive it and must not throw.
class progress_ref {
public:
    /// Nobody is told, and everything goes on.
    progress_ref() noexcept = default;
    /// Any callable that takes a rewrite_progress and answers what converts to bool.
    template <class F>
        requires(!std::is_same_v<F, progress_ref> &&
                 std::is_invocable_r_v<bool, F&, const rewrite_progress&>)
    progress_ref(F& f SAFEFUSE_LIFETIMEBOUND) noexcept
        : object_{&f}, call_{[](void* object, const rewrite_progress& progress) {
              return static_cast<bool>((*static_cast<F*>(object))(progress));
          }} {}

    /// Tells how far it is; false: stop.
    bool operator()(const rewrite_progress& progress) const {
        return call_ == nullptr || call_(object_, progress);
    }

private:
    void* object_ = nullptr;
    bool (*call_)(void*, const rewrite_progress&) = nullptr;
};

/// The buffer of a rewrite, where outputs are put together from strided copies.
inline constexpr std::size_t rewrite_buffer_bytes = std::size_t{4} << 20;

/// How large that buffer becomes, if need be, where sources must be read: a matrix that is
/// transposed is read once as long as what is made of it fits.
inline constexpr std::size_t largest_rewrite_buffer_bytes = std::size_t{24} << 20;

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
