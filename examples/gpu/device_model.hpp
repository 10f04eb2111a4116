// Loads a whole model: finds the modules whose experts are fused, plans them, gives every output
// and every other tensor a place in one block of device memory, and loads all of them through one
// loader.
#ifndef SAFEFUSE_EXAMPLES_GPU_DEVICE_MODEL_HPP
#define SAFEFUSE_EXAMPLES_GPU_DEVICE_MODEL_HPP

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <safefuse/run/staged.hpp>
#include <safefuse/safefuse.hpp>

namespace gpu {

namespace sf = safefuse;

/// A tensor in the block.
struct placed_tensor {
    std::string name;
    sf::dtype type{};
    std::vector<std::uint64_t> shape;
    std::uint64_t offset = 0;  // in the block
    std::uint64_t size_bytes = 0;
};

/// The part of a model to load.
struct model_part {
    std::uint64_t rank = 0, ranks = 1;                // the rank's share of each layer's experts
    bool experts_only = false;                        // skips all other tensors
    const sf::layout_description* experts = nullptr;  // an engine's layout; null: the model's own
};

/// Everything that a model needs on a device: plans, copies, and the place of each tensor. Refers
/// to the tensor set and the family.
class device_model {
public:
    static constexpr std::uint64_t alignment = 256;

    static sf::result<device_model> make(sf::tensor_set_ref set,
                                         const sf::family_description& family,
                                         const sf::plan_options& options,
                                         const model_part& part = {}) {
        device_model out{set};
        const auto scopes = sf::experts_scopes::find(set, family);
        if (!scopes) return scopes.error();
        std::vector<bool> taken(set.size());
        for (std::size_t s = 0; s < scopes->size(); ++s) {
            const sf::experts_scope scope = (*scopes)[s];
            const bool are_experts = scope.module == 0;
            for (const std::uint32_t i : scope.tensors) taken[i] = true;
            if (part.experts_only && !are_experts) continue;
            sf::plan_options chosen = options;
            chosen.destination_scope = scope.destination_name;
            const auto plan_one = [&] {
                if (are_experts && part.experts != nullptr)
                    return sf::plan(set, scope.name,
                                    scope.form == sf::scope_state::done ? *family.to : *family.from,
                                    *part.experts, chosen);
                return sf::plan(set, scope, family, sf::direction::forward, chosen);
            };
            auto plan = plan_one();
            if (plan && are_experts && part.ranks > 1) {
                const std::uint64_t experts = plan->expert_count();
                chosen.first_expert = experts * part.rank / part.ranks;
                chosen.end_expert = experts * (part.rank + 1) / part.ranks;
                if (chosen.first_expert == chosen.end_expert) continue;
                plan = plan_one();
            }
            if (!plan) return std::move(plan).error();
            out.add(std::move(*plan));
        }
        for (std::uint32_t i = 0; i < set.size(); ++i) {
            if (taken[i] || part.experts_only) continue;
            const sf::tensor_spec spec = set.spec(i);
            auto name = sf::renamed(family, spec.name);
            if (!name) return std::move(name).error();
            out.rest_.push_back(i);
            out.place(name->view(), spec, set.place(i).size_bytes);
        }
        return out;
    }

    /// Every tensor: first the outputs of the plans, in order.
    [[nodiscard]] const std::vector<placed_tensor>& tensors() const { return tensors_; }
    [[nodiscard]] const std::vector<sf::copy_plan>& plans() const { return plans_; }
    /// Size of the block, and of the tensors in it.
    [[nodiscard]] std::uint64_t block_bytes() const { return block_bytes_; }
    [[nodiscard]] std::uint64_t tensor_bytes() const { return tensor_bytes_; }

    /// Loads everything into `block`. `window` returns which bytes of a tensor are made, and where
    /// the first of them goes in the block.
    template <class Device, class Executor, class Window>
    sf::result<void> load(sf::staged_loader<Device>& loader, typename Device::destination block,
                          Executor&& run, const Window& window) const {
        using target = typename sf::staged_loader<Device>::target;
        std::size_t next = 0;
        std::vector<std::vector<target>> targets(plans_.size());
        std::vector<typename sf::staged_loader<Device>::planned> planned;
        for (std::size_t p = 0; p < plans_.size(); ++p) {
            for (std::size_t i = 0; i < plans_[p].outputs().size(); ++i)
                targets[p].push_back(window(block, tensors_[next++]));
            planned.push_back({&plans_[p], targets[p]});
        }
        if (auto done = loader.fuse(planned, run); !done) return std::move(done).error();
        std::vector<sf::staged_tensor<typename Device::destination>> rest;
        for (const std::uint32_t i : rest_) rest.push_back({i, window(block, tensors_[next++])});
        if (rest.empty()) return {};
        auto done = loader.load(set_, rest, run);
        if (!done) return std::move(done).error();
        return {};
    }
    /// Loads all of each tensor to its place.
    template <class Device, class Executor>
    sf::result<void> load(sf::staged_loader<Device>& loader, typename Device::destination block,
                          Executor&& run) const {
        return load(loader, block, run,
                    [](typename Device::destination to, const placed_tensor& tensor) {
                        return typename sf::staged_loader<Device>::target{to, tensor.offset,
                                                                          tensor.size_bytes};
                    });
    }

    /// Makes tensor i on the processor, for comparison.
    sf::result<void> make_on_host(std::size_t i, std::vector<std::byte>& out) const {
        out.resize(static_cast<std::size_t>(tensors_[i].size_bytes));
        for (const sf::copy_plan& plan : plans_) {
            if (i < plan.outputs().size()) return sf::fuse(plan, plan.outputs()[i].local_name, out);
            i -= plan.outputs().size();
        }
        const sf::tensor_location place = set_.place(rest_[i]);
        return set_.read(place.source, place.offset, {out.data(), out.size()});
    }

private:
    explicit device_model(sf::tensor_set_ref set) : set_{set} {}

    void place(std::string_view name, const sf::tensor_spec& spec, std::uint64_t size_bytes) {
        tensors_.push_back({std::string{name},
                            spec.type,
                            {spec.shape.begin(), spec.shape.end()},
                            block_bytes_,
                            size_bytes});
        block_bytes_ += (size_bytes + alignment - 1) / alignment * alignment;
        tensor_bytes_ += size_bytes;
    }
    void add(sf::copy_plan&& plan) {
        for (const sf::plan_output& each : plan.outputs()) place(each.name, each, each.size_bytes);
        plans_.push_back(std::move(plan));
    }

    sf::tensor_set_ref set_;
    std::vector<sf::copy_plan> plans_;
    std::vector<std::uint32_t> rest_;
    std::vector<placed_tensor> tensors_;
    std::uint64_t block_bytes_ = 0, tensor_bytes_ = 0;
};

}  // namespace gpu

#endif
