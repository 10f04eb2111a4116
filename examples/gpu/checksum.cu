#include "checksum.hpp"

#include <cuda_runtime.h>

namespace gpu {
namespace {

__global__ void add_words(const std::uint64_t* words, std::size_t count, const std::byte* rest,
                          std::size_t rest_bytes, unsigned long long* sum) {
    std::uint64_t mine = 0;
    const std::size_t first = blockIdx.x * std::size_t{blockDim.x} + threadIdx.x;
    for (std::size_t i = first; i < count; i += std::size_t{gridDim.x} * blockDim.x)
        mine += mixed(words[i], i);
    if (first == 0 && rest_bytes > 0) {
        std::uint64_t word = 0;
        for (std::size_t b = 0; b < rest_bytes; ++b)
            word |= static_cast<std::uint64_t>(rest[b]) << (8 * b);
        mine += mixed(word, count);
    }
    atomicAdd(sum, static_cast<unsigned long long>(mine));
}

}  // namespace

int checksum_on_device(const std::byte* bytes, std::size_t size_bytes,
                       std::uint64_t& sum) noexcept {
    sum = 0;
    if (size_bytes == 0) return cudaSuccess;
    unsigned long long* on_device = nullptr;
    if (const cudaError_t error = cudaMalloc(&on_device, sizeof *on_device); error != cudaSuccess)
        return error;
    const std::size_t count = size_bytes / 8;
    unsigned long long found = 0;
    cudaError_t error = cudaMemset(on_device, 0, sizeof *on_device);
    if (error == cudaSuccess) {
        add_words<<<1024, 256>>>(reinterpret_cast<const std::uint64_t*>(bytes), count,
                                 bytes + count * 8, size_bytes % 8, on_device);
        error = cudaGetLastError();
    }
    if (error == cudaSuccess)
        error = cudaMemcpy(&found, on_device, sizeof found, cudaMemcpyDeviceToHost);
    static_cast<void>(cudaFree(on_device));
    sum = found;
    return error;
}

}  // namespace gpu
