// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: progress and buffer sizes of a rewrite.
#ifndef SAFEFUSE_WRITE_PROGRESS_HPP
#define SAFEFUSE_WRITE_PROGRESS_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include <safefuse/core/config.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// Progress of a rewrite.
struct rewrite_progress {
    /// New name of the tensor that was just worked on.
    std::string_view tensor;
    /// Bytes of the new tensors that are done.
    std::uint64_t done_bytes;
    /// Bytes of all new tensors.
    std::uint64_t total_bytes;
};

/// Reference to a progress callback, which returns false to stop.
///   lifetime  the callable must outlive it; it must not throw
class progress_ref {
public:
    /// No callback: the run never stops.
    progress_ref() noexcept = default;
    /// Refers to any callable that takes a rewrite_progress and returns a value convertible to
    /// bool.
    template <class F>
        requires(!std::is_same_v<F, progress_ref> &&
                 std::is_invocable_r_v<bool, F&, const rewrite_progress&>)
    progress_ref(F& f SAFEFUSE_LIFETIMEBOUND) noexcept  // NOLINT: implicit by design
        : object_{&f}, call_{[](void* object, const rewrite_progress& progress) {
              return static_cast<bool>((*static_cast<F*>(object))(progress));
          }} {}

    /// Reports progress. Returns false if the run is to stop.
    bool operator()(const rewrite_progress& progress) const {
        return call_ == nullptr || call_(object_, progress);
    }

private:
    void* object_ = nullptr;
    bool (*call_)(void*, const rewrite_progress&) = nullptr;
};

/// Size in bytes of a rewrite's buffer, in which outputs are assembled from strided copies.
inline constexpr std::size_t rewrite_buffer_bytes = std::size_t{4} << 20;

/// Size in bytes to which that buffer may grow if sources must be read. A transposed matrix whose
/// result fits into it is read only once.
inline constexpr std::size_t largest_rewrite_buffer_bytes = std::size_t{24} << 20;

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
