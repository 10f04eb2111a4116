// How do I get a model's tensors, experts fused, as torch tensors on a GPU without a copy? This is
// what an extension module would do, as a C ABI that torch_tensors.py calls through ctypes. All
// tensors share ownership of the block of device memory; the last one frees it.
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include <safefuse/interop/dlpack.hpp>

#include "../programs/convert_checkpoint.hpp"
#include "cuda_device.hpp"
#include "device_model.hpp"

namespace {

namespace sf = safefuse;

std::string message;

/// A model on a device. The plans and the checkpoint are gone; names, shapes and the block stay.
struct loaded_model {
    int device = 0;
    std::shared_ptr<gpu::device_memory> block;
    std::vector<gpu::placed_tensor> tensors;
};

sf::result<void> load(const char* path, int device_number, std::size_t readers_wanted,
                      loaded_model& out) {
    const auto checkpoint = sf::checkpoint::open(path);
    if (!checkpoint) return checkpoint.error();
    auto family = choose_family::choose(
        convert_checkpoint::text_of(convert_checkpoint::directory_of(path)), *checkpoint, {});
    if (!family) return std::move(family).error();
    const auto model = gpu::device_model::make(*checkpoint, family->family, family->options());
    if (!model) return model.error();
    auto device = gpu::cuda_device::make(device_number);
    if (!device) return std::move(device).error();
    auto block = gpu::device_memory::allocate(device_number, model->block_bytes());
    if (!block) return std::move(block).error();
    auto loader = sf::staged_loader<gpu::cuda_device>::make(*device);
    if (!loader) return std::move(loader).error();
    auto readers = sf::standing_threads::make(readers_wanted);
    if (!readers) return std::move(readers).error();
    auto done = model->load(*loader, block->data(), *readers);
    if (done) done = loader->finish();
    if (!done) return done;
    out = {device_number, std::make_shared<gpu::device_memory>(std::move(*block)),
           model->tensors()};
    return {};
}

}  // namespace

#define EXPORTED extern "C" __attribute__((visibility("default")))

EXPORTED const char* last_message() { return message.c_str(); }

/// Loads a model. Free it with free_model. Null on failure.
EXPORTED void* load_model(const char* path, int device, std::size_t readers) {
    auto made = std::make_unique<loaded_model>();
    if (auto done = load(path, device, readers, *made); !done) {
        message = done.error().message().c_str();
        return nullptr;
    }
    return made.release();
}
EXPORTED void free_model(void* model) { delete static_cast<loaded_model*>(model); }

EXPORTED std::size_t tensor_count(const void* model) {
    return static_cast<const loaded_model*>(model)->tensors.size();
}
EXPORTED const char* tensor_name(const void* model, std::size_t i) {
    return static_cast<const loaded_model*>(model)->tensors[i].name.c_str();
}
/// The content of a capsule "dltensor_versioned": kDLCUDA. Null on failure.
EXPORTED void* lend_tensor(const void* model, std::size_t i) {
    const auto& of = *static_cast<const loaded_model*>(model);
    const gpu::placed_tensor& tensor = of.tensors[i];
    const auto view = sf::tensor_view::of(
        tensor.type, {tensor.shape.data(), tensor.shape.size()},
        {of.block->data() + tensor.offset, static_cast<std::size_t>(tensor.size_bytes)});
    if (!view) {
        message = view.error().message().c_str();
        return nullptr;
    }
    auto lent = sf::dlpack::lend(*view, std::shared_ptr{of.block},
                                 {.is_writable = true, .device = {2, of.device}});
    if (!lent) {
        message = lent.error().message().c_str();
        return nullptr;
    }
    return lent->release();
}
EXPORTED void free_lent(void* managed) {
    const sf::dlpack::handle<sf::dlpack::managed_tensor_versioned> gone{
        static_cast<sf::dlpack::managed_tensor_versioned*>(managed)};
}
