// A copy_device (safefuse/run/staged.hpp) on the CUDA runtime. Copy what you need: your streams,
// your allocator, your error handling.
#ifndef SAFEFUSE_EXAMPLES_GPU_CUDA_DEVICE_HPP
#define SAFEFUSE_EXAMPLES_GPU_CUDA_DEVICE_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include <cuda_runtime_api.h>

#include <safefuse/run/staged.hpp>

namespace gpu {

/// A CUDA error as a failure. Clears CUDA's last error, so that no later call reports it again.
inline safefuse::failure cuda_failure(const char* call, cudaError_t error) noexcept {
    static_cast<void>(cudaGetLastError());
    safefuse::failure out{.code = error == cudaErrorMemoryAllocation
                                      ? safefuse::errc::out_of_memory
                                      : safefuse::errc::device_failed,
                          .detail = call};
    out.detail.append(": ");
    out.detail.append(cudaGetErrorString(error));
    return out;
}
inline safefuse::result<void> checked(const char* call, cudaError_t error) noexcept {
    if (error == cudaSuccess) return {};
    return cuda_failure(call, error);
}

/// Sets the calling thread's current device and restores the previous one. Asking for it costs
/// almost nothing.
class current_device {
public:
    explicit current_device(int device) noexcept : device_{device} {
        failed_ = cudaGetDevice(&before_);
        if (failed_ == cudaSuccess && before_ != device_) failed_ = cudaSetDevice(device_);
    }
    current_device(const current_device&) = delete;
    current_device& operator=(const current_device&) = delete;
    ~current_device() {
        if (failed_ == cudaSuccess && before_ != device_) static_cast<void>(cudaSetDevice(before_));
    }
    [[nodiscard]] safefuse::result<void> check() const noexcept {
        return checked("cudaSetDevice", failed_);
    }

private:
    int device_;
    int before_ = 0;
    cudaError_t failed_ = cudaSuccess;
};

/// One GPU. Destinations are addresses of its memory.
class cuda_device {
public:
    using destination = std::byte*;

    /// An event, made by prepare() and reused.
    class ticket {
    public:
        ticket() noexcept = default;
        ticket(ticket&& other) noexcept : event_{std::exchange(other.event_, nullptr)} {}
        ticket& operator=(ticket&& other) noexcept {
            std::swap(event_, other.event_);
            return *this;
        }
        ~ticket() {
            if (event_ != nullptr) static_cast<void>(cudaEventDestroy(event_));
        }

    private:
        friend class cuda_device;
        cudaEvent_t event_ = nullptr;
    };

    /// A GPU with `stream_count` streams of its own, which share the slabs. One stream is enough
    /// for one GPU.
    static safefuse::result<cuda_device> make(int device, std::size_t stream_count = 1) {
        cuda_device made{device};
        const current_device current{device};
        if (auto set = current.check(); !set) return std::move(set).error();
        made.owned_ = true;
        for (std::size_t i = 0; i < stream_count; ++i) {
            cudaStream_t stream = nullptr;
            if (const auto error = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
                error != cudaSuccess)
                return cuda_failure("cudaStreamCreateWithFlags", error);
            made.streams_.push_back(stream);
        }
        return made;
    }
    /// A GPU with at least one stream of the caller, which must outlive it.
    cuda_device(int device, std::vector<cudaStream_t> streams)
        : device_{device}, streams_{std::move(streams)} {}

    cuda_device(cuda_device&& other) noexcept
        : device_{other.device_},
          owned_{std::exchange(other.owned_, false)},
          streams_{std::move(other.streams_)} {}
    cuda_device& operator=(cuda_device&&) = delete;
    ~cuda_device() {
        if (!owned_) return;
        const current_device current{device_};
        for (cudaStream_t each : streams_) static_cast<void>(cudaStreamDestroy(each));
    }

    [[nodiscard]] int number() const noexcept { return device_; }
    [[nodiscard]] const std::vector<cudaStream_t>& streams() const noexcept { return streams_; }

    // Members required by copy_device.
    safefuse::result<safefuse::staging_memory> allocate_staging(std::size_t size_bytes) noexcept {
        const current_device current{device_};
        if (auto set = current.check(); !set) return std::move(set).error();
        // CUDA aligns small allocations to 512 bytes only. The address that CUDA returned is stored
        // after the slab.
        const std::size_t kept_at = (size_bytes + 15) / 16 * 16;
        void* given = nullptr;
        // portable: page-locked for all GPUs of the process
        if (const auto error =
                cudaHostAlloc(&given, kept_at + sizeof given + 4096, cudaHostAllocPortable);
            error != cudaSuccess)
            return cuda_failure("cudaHostAlloc", error);
        auto* const data = static_cast<std::byte*>(given) +
                           (4096 - reinterpret_cast<std::uintptr_t>(given) % 4096) % 4096;
        std::memcpy(data + kept_at, &given, sizeof given);
        return safefuse::staging_memory{data, size_bytes};
    }
    void free_staging(safefuse::staging_memory memory) noexcept {
        void* given = nullptr;
        std::memcpy(&given, memory.data + (memory.size_bytes + 15) / 16 * 16, sizeof given);
        static_cast<void>(cudaFreeHost(given));
    }
    safefuse::result<void> prepare(ticket& made) noexcept {
        const current_device current{device_};
        if (auto set = current.check(); !set) return set;
        return checked("cudaEventCreateWithFlags",
                       cudaEventCreateWithFlags(&made.event_, cudaEventDisableTiming));
    }
    safefuse::result<void> copy(const destination& to, std::uint64_t offset,
                                safefuse::span<const std::byte> from, std::size_t lane) noexcept {
        const current_device current{device_};
        if (auto set = current.check(); !set) return set;
        return checked("cudaMemcpyAsync", cudaMemcpyAsync(to + offset, from.data(), from.size(),
                                                          cudaMemcpyHostToDevice, stream_of(lane)));
    }
#if CUDART_VERSION >= 13000
    /// Enqueues all copies of one or some slabs at once. Copies enqueued one by one leave the bus
    /// idle for some microseconds after each.
    safefuse::result<void> copy_batch(
        safefuse::span<const safefuse::staged_copy<destination>> copies,
        std::size_t lane) noexcept {
        if (copies.size() == 1) return copy(copies[0].to, copies[0].offset, copies[0].from, lane);
        const current_device current{device_};
        if (auto set = current.check(); !set) return set;
        constexpr std::size_t most = 64;
        void* to[most];
        const void* from[most];
        std::size_t size_bytes[most];
        cudaMemcpyAttributes attributes{};
        attributes.srcAccessOrder = cudaMemcpySrcAccessOrderStream;
        std::size_t first = 0;  // the attributes are for all copies from this one on
        for (std::size_t done = 0; done < copies.size();) {
            std::size_t count = 0;
            for (; count < most && done < copies.size(); ++count, ++done) {
                to[count] = copies[done].to + copies[done].offset;
                from[count] = copies[done].from.data();
                size_bytes[count] = copies[done].from.size();
            }
            if (const auto error = cudaMemcpyBatchAsync(to, from, size_bytes, count, &attributes,
                                                        &first, 1, stream_of(lane));
                error != cudaSuccess)
                return cuda_failure("cudaMemcpyBatchAsync", error);
        }
        return {};
    }
#endif
    safefuse::result<void> mark(ticket& set, std::size_t lane) noexcept {
        const current_device current{device_};
        if (auto done = current.check(); !done) return done;
        return checked("cudaEventRecord", cudaEventRecord(set.event_, stream_of(lane)));
    }
    safefuse::result<bool> is_done(ticket& set) noexcept {
        const cudaError_t error = cudaEventQuery(set.event_);
        if (error == cudaErrorNotReady) {
            static_cast<void>(cudaGetLastError());
            return false;
        }
        if (error != cudaSuccess) return cuda_failure("cudaEventQuery", error);
        return true;
    }
    safefuse::result<void> wait(ticket& set) noexcept {
        return checked("cudaEventSynchronize", cudaEventSynchronize(set.event_));
    }
    /// Makes a stream of the caller wait: work enqueued in it afterwards finds the bytes there.
    safefuse::result<void> let_wait(const cudaStream_t& stream, ticket& set) noexcept {
        return checked("cudaStreamWaitEvent", cudaStreamWaitEvent(stream, set.event_, 0));
    }

private:
    explicit cuda_device(int device) noexcept : device_{device} {}
    [[nodiscard]] cudaStream_t stream_of(std::size_t lane) const noexcept {
        return streams_[lane % streams_.size()];
    }

    int device_;
    bool owned_ = false;
    std::vector<cudaStream_t> streams_;
};

static_assert(safefuse::copy_device<cuda_device>);

/// Memory of a GPU, freed on destruction.
class device_memory {
public:
    device_memory() noexcept = default;
    device_memory(device_memory&& other) noexcept
        : device_{other.device_},
          data_{std::exchange(other.data_, nullptr)},
          size_bytes_{other.size_bytes_} {}
    device_memory& operator=(device_memory&& other) noexcept {
        std::swap(device_, other.device_);
        std::swap(data_, other.data_);
        std::swap(size_bytes_, other.size_bytes_);
        return *this;
    }
    ~device_memory() {
        if (data_ == nullptr) return;
        const current_device current{device_};
        static_cast<void>(cudaFree(data_));
    }
    static safefuse::result<device_memory> allocate(int device, std::uint64_t size_bytes) noexcept {
        device_memory made;
        made.device_ = device;
        made.size_bytes_ = size_bytes;
        if (size_bytes == 0) return made;
        const current_device current{device};
        if (auto set = current.check(); !set) return std::move(set).error();
        void* data = nullptr;
        if (const auto error = cudaMalloc(&data, static_cast<std::size_t>(size_bytes));
            error != cudaSuccess)
            return cuda_failure("cudaMalloc", error);
        made.data_ = static_cast<std::byte*>(data);
        return made;
    }
    [[nodiscard]] std::byte* data() const noexcept { return data_; }
    [[nodiscard]] std::uint64_t size_bytes() const noexcept { return size_bytes_; }

private:
    int device_ = 0;
    std::byte* data_ = nullptr;
    std::uint64_t size_bytes_ = 0;
};

}  // namespace gpu

#endif
