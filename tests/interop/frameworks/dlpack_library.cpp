// What an extension module would do with safefuse and DLPack, as a C ABI that
// tests/interop/frameworks/dlpack.py calls through ctypes.
#include <safefuse/interop/dlpack.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <safefuse/models/transformers.hpp>
#include <safefuse/plan/scopes.hpp>
#include <safefuse/read/checkpoint.hpp>
#include <safefuse/run/fuse.hpp>

namespace sf = safefuse;

#define EXPORTED extern "C" __attribute__((visibility("default")))

// From the Python that loads this.
extern "C" __attribute__((weak)) int PyCapsule_IsValid(void* capsule, const char* name);
extern "C" __attribute__((weak)) void* PyCapsule_GetPointer(void* capsule, const char* name);

namespace {

using shared_checkpoint = std::shared_ptr<const sf::checkpoint>;

std::string message;
int open_count = 0, deleted_count = 0;

// What each tensor owns: a share of the checkpoint.
class share {
public:
    explicit share(shared_checkpoint of) : of_{std::move(of)} {}
    share(share&& other) noexcept = default;
    ~share() { deleted_count += of_ != nullptr; }

private:
    shared_checkpoint of_;
};

template <class T>
bool failed(const sf::result<T>& outcome) {
    message = outcome ? "" : outcome.error().message().c_str();
    return !outcome;
}

template <class Managed>
void* lend(const shared_checkpoint& checkpoint, const char* name) {
    const auto view = checkpoint->find(name);
    if (failed(view)) return nullptr;
    auto lent = sf::dlpack::lend<Managed>(*view, share{checkpoint});
    return failed(lent) ? nullptr : lent->release();
}

// A capsule that was consumed has another name; its content then belongs to the consumer.
template <class Managed>
void free_unused(void* capsule, const char* name) {
    if (PyCapsule_IsValid(capsule, name) == 0) return;
    const sf::dlpack::handle<Managed> gone{
        static_cast<Managed*>(PyCapsule_GetPointer(capsule, name))};
}

int fuse(const sf::tensor_set_ref& set, const char* scope, const char* output, void* managed) {
    const auto plan = sf::plan<sf::families::qwen2_moe>(set, scope);
    if (failed(plan)) return -1;
    auto into =
        sf::dlpack::borrow(*static_cast<const sf::dlpack::managed_tensor_versioned*>(managed));
    if (failed(into)) return -1;
    return failed(sf::fuse(*plan, output, *into)) ? -1 : 0;
}

}  // namespace

EXPORTED const char* last_message() { return message.c_str(); }
EXPORTED int checkpoints_open() { return open_count; }
EXPORTED int tensors_deleted() { return deleted_count; }

EXPORTED void* open_checkpoint(const char* path) {
    auto opened = sf::checkpoint::open(path);
    if (failed(opened)) return nullptr;
    ++open_count;
    return new shared_checkpoint{new sf::checkpoint{std::move(*opened)},
                                 [](const sf::checkpoint* gone) {
                                     --open_count;
                                     delete gone;
                                 }};
}
EXPORTED void close_checkpoint(void* checkpoint) {
    delete static_cast<shared_checkpoint*>(checkpoint);
}

EXPORTED void* lend_versioned(void* checkpoint, const char* name) {
    return lend<sf::dlpack::managed_tensor_versioned>(*static_cast<shared_checkpoint*>(checkpoint),
                                                      name);
}
EXPORTED void* lend_legacy(void* checkpoint, const char* name) {
    return lend<sf::dlpack::managed_tensor>(*static_cast<shared_checkpoint*>(checkpoint), name);
}
// Destructors of capsules.
EXPORTED void free_versioned(void* capsule) {
    free_unused<sf::dlpack::managed_tensor_versioned>(capsule, "dltensor_versioned");
}
EXPORTED void free_legacy(void* capsule) {
    free_unused<sf::dlpack::managed_tensor>(capsule, "dltensor");
}

EXPORTED int fuse_checkpoint(void* checkpoint, const char* scope, const char* output,
                             void* managed) {
    return fuse(**static_cast<shared_checkpoint*>(checkpoint), scope, output, managed);
}

// The same from frameworks' tensors.
EXPORTED int fuse_tensors(const char* const* names, void* const* tensors, std::size_t count,
                          const char* scope, const char* output, void* managed) {
    std::vector<sf::dlpack::borrowed_tensor> borrowed;
    for (std::size_t i = 0; i < count; ++i) {
        auto found = sf::dlpack::borrow(
            *static_cast<const sf::dlpack::managed_tensor_versioned*>(tensors[i]));
        if (failed(found)) return -1;
        borrowed.push_back(std::move(*found));
    }
    std::vector<sf::named_tensor> named;
    for (std::size_t i = 0; i < count; ++i) named.push_back({names[i], borrowed[i].view()});
    const sf::tensor_list set{named};
    return fuse(set, scope, output, managed);
}
