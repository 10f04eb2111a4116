// A checksum that a GPU computes over its own memory and the processor over its own: the sum, over
// the 8-byte words, of a mix of word and position. Bytes after the last whole word form a word
// padded with zeros.
#ifndef SAFEFUSE_EXAMPLES_GPU_CHECKSUM_HPP
#define SAFEFUSE_EXAMPLES_GPU_CHECKSUM_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace gpu {

#if defined(__CUDACC__)
#define GPU_BOTH __host__ __device__
#else
#define GPU_BOTH
#endif

GPU_BOTH constexpr std::uint64_t mixed(std::uint64_t word, std::uint64_t position) noexcept {
    std::uint64_t x = (word ^ (position * 0x9E3779B97F4A7C15u)) * 0xBF58476D1CE4E5B9u;
    x ^= x >> 32;
    return x * 0x94D049BB133111EBu;
}
#undef GPU_BOTH

inline std::uint64_t checksum_of(const std::byte* bytes, std::size_t size_bytes) noexcept {
    std::uint64_t sum = 0;
    for (std::size_t at = 0; at < size_bytes; at += 8) {
        std::uint64_t word = 0;
        std::memcpy(&word, bytes + at, size_bytes - at < 8 ? size_bytes - at : 8);
        sum += mixed(word, at / 8);
    }
    return sum;
}

/// The checksum of memory of the current device, aligned to 8 bytes. Returns a cudaError_t.
int checksum_on_device(const std::byte* bytes, std::size_t size_bytes, std::uint64_t& sum) noexcept;

}  // namespace gpu

#endif
