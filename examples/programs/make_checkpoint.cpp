// What does a mixture-of-experts checkpoint look like, and how is one written? Makes a random one
// with the names of a real family.
#include <algorithm>
#include <string>
#include <vector>

#include "command_line.hpp"

namespace sf = safefuse;

namespace {

/// Differences between families beside their experts.
struct names {
    std::string_view family, model_type, architecture, router, expert_key;
    std::string_view base = "model.", embeddings = "embed_tokens", norm = "norm";
};
constexpr names known[] = {
    {"qwen2_moe", "qwen3_moe", "Qwen3MoeForCausalLM", "mlp.gate.weight", "num_experts"},
    {"ernie4_5_moe", "ernie4_5_moe", "Ernie4_5_MoeForCausalLM", "mlp.gate.weight",
     "moe_num_experts"},
    {"exaone_moe", "exaone_moe", "ExaoneMoEForCausalLM", "mlp.gate.weight", "num_experts"},
    {"granitemoe", "granitemoe", "GraniteMoeForCausalLM", "block_sparse_moe.router.layer.weight",
     "num_local_experts"},
    {"hy_v3", "hy_v3", "HYV3ForCausalLM", "mlp.router.gate.weight", "num_experts"},
    {"jamba", "jamba", "JambaForCausalLM", "feed_forward.router.weight", "num_experts"},
    {"lfm2_moe", "lfm2_moe", "Lfm2MoeForCausalLM", "feed_forward.gate.weight", "num_experts"},
    {"mixtral", "mixtral", "MixtralForCausalLM", "block_sparse_moe.gate.weight",
     "num_local_experts"},
    {"nemotron_h", "nemotron_h", "NemotronHForCausalLM", "mixer.gate.weight", "n_routed_experts",
     "backbone.", "embeddings", "norm_f"},
    {"phimoe", "phimoe", "PhimoeForCausalLM", "block_sparse_moe.gate.weight", "num_local_experts"},
};

struct tensor {
    std::string name;
    sf::dtype type;
    std::vector<std::uint64_t> shape;
};

/// Fills with random bytes in which every 16-bit pattern is a small number in any float dtype.
void fill(std::vector<std::byte>& out, std::uint64_t& state, sf::dtype type) {
    std::uint64_t keep = ~std::uint64_t{0}, set = 0;
    if (type == sf::dtype::bf16) keep = 0x80FF80FF80FF80FF, set = 0x3C003C003C003C00;
    if (type == sf::dtype::f16) keep = 0x83FF83FF83FF83FF, set = 0x2400240024002400;
    if (type == sf::dtype::f32) keep = 0x80FFFFFF80FFFFFF, set = 0x3C0000003C000000;
    if (type == sf::dtype::f8_e4m3) keep = 0xBFBFBFBFBFBFBFBF;
    for (std::size_t i = 0; i + 8 <= out.size(); i += 8) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        const std::uint64_t word = (state & keep) | set;
        std::memcpy(out.data() + i, &word, 8);
    }
}

/// Adds all tensors of one layer's experts as the family stores them.
void add_experts(std::vector<tensor>& tensors, const sf::family_description& family,
                 const std::string& scope, sf::layout_args extents, sf::dtype type) {
    for (const sf::tensor_description& stored : family.from->tensors)
        for (const sf::field_suffix& spelled : family.from->fields) {
            const bool scale = spelled.field->name == "weight_scale_inv";
            if (spelled.field->name != "weight" && !(scale && sf::is_code(type))) continue;
            extents.field = spelled.field->forms.data();
            const sf::mapping placed = stored.place(extents);
            std::vector<std::uint64_t> shape;
            for (std::size_t a = 0; a < placed.axis_count; ++a)
                shape.push_back(placed.axes[a].extent);
            for (std::uint64_t e = 0; e < (stored.per_expert() ? extents.values[0] : 1); ++e) {
                std::string local{stored.name};
                if (const std::size_t hole = local.find(sf::expert_hole); hole != std::string::npos)
                    local.replace(hole, sf::expert_hole.size(), std::to_string(e));
                tensors.push_back({scope + "." + local + std::string{spelled.suffix},
                                   scale ? sf::dtype::f32 : type, shape});
            }
        }
}

}  // namespace

int main(int argc, char** argv) {
    command_line::survive_file_size_limit();
    command_line::arguments arguments{
        argc, argv,
        "usage: make_checkpoint OUT [options]\n"
        "Writes a random mixture-of-experts checkpoint with a config.json to the directory OUT.\n"
        "  --family NAME         family of the names and the layout; default qwen2_moe\n"
        "  --layers N            default 2\n"
        "  --experts E           of each layer; default 8\n"
        "  --hidden H            default 256\n"
        "  --intermediate I      of each expert; default 128\n"
        "  --dtype D             BF16, F16, F32, or F8_E4M3 with block scales for the experts;\n"
        "                        default BF16\n"
        "  --max-shard-size S    such as 300MB or 5GB; default 5GB\n"};
    const std::string family_name = arguments.value("--family", "qwen2_moe");
    const std::uint64_t layers = arguments.count("--layers", 2),
                        experts = arguments.count("--experts", 8);
    const std::uint64_t hidden = arguments.count("--hidden", 256),
                        inner = arguments.count("--intermediate", 128);
    const std::uint64_t max_shard_bytes =
        arguments.size("--max-shard-size", sf::default_shard_bytes);
    const std::string dtype_name = arguments.value("--dtype", "BF16");
    sf::dtype type{};
    if (!sf::parse_dtype(dtype_name, type) ||
        (type != sf::dtype::bf16 && type != sf::dtype::f16 && type != sf::dtype::f32 &&
         type != sf::dtype::f8_e4m3))
        arguments.complain("--dtype must be BF16, F16, F32 or F8_E4M3, not \"" + dtype_name + "\"");
    const sf::family_description* const family = sf::find_family(family_name);
    const names* spelled = nullptr;
    for (const names& each : known)
        if (family != nullptr && each.family == family->name) spelled = &each;
    if (spelled == nullptr)
        arguments.complain("unknown family " + family_name + "; " + sf::family_names().c_str());
    if (!arguments.positional(1)) return arguments.status();
    const std::string& out = arguments[0];

    // The tensors: embeddings, some attention, a router and the experts of each layer.
    const sf::dtype plain = sf::is_code(type) ? sf::dtype::bf16 : type;
    const std::uint64_t vocabulary = 1024;
    const std::string base{spelled->base};
    std::vector<tensor> tensors = {
        {base + std::string{spelled->embeddings} + ".weight", plain, {vocabulary, hidden}}};
    sf::layout_args extents;
    extents.values[0] = experts;
    extents.values[extents.dim("I")] = inner;
    extents.values[extents.dim("H")] = hidden;
    for (std::uint64_t layer = 0; layer < layers; ++layer) {
        const std::string at = base + "layers." + std::to_string(layer) + ".";
        tensors.push_back({at + "input_layernorm.weight", plain, {hidden}});
        for (const char* each : {"q_proj", "k_proj", "v_proj", "o_proj"})
            tensors.push_back({at + "self_attn." + each + ".weight", plain, {hidden, hidden}});
        tensors.push_back({at + std::string{spelled->router}, plain, {experts, hidden}});
        add_experts(tensors, *family, at + std::string{family->from_module}, extents, type);
    }
    tensors.push_back({base + std::string{spelled->norm} + ".weight", plain, {hidden}});
    tensors.push_back({"lm_head.weight", plain, {vocabulary, hidden}});
    // sort by layer and expert, so that related tensors are in one shard
    std::sort(tensors.begin(), tensors.end(),
              [](const tensor& a, const tensor& b) { return sf::natural_less(a.name, b.name); });

    // Write shard by shard, each tensor in pieces, so that memory does not grow with the
    // checkpoint.
    const command_line::stopwatch watch;
    std::vector<sf::tensor_spec> specs;
    for (const tensor& each : tensors) specs.push_back({each.name, each.type, each.shape});
    auto writer = sf::checkpoint_writer::create(out, specs, {.max_shard_bytes = max_shard_bytes});
    if (!writer) return command_line::report(writer.error());
    std::vector<std::byte> piece(std::size_t{1} << 20);
    std::uint64_t state = 0x9E3779B97F4A7C15, total = 0;
    sf::run_progress at{};
    for (const tensor& each : tensors) {
        std::uint64_t size_bytes = 0;
        static_cast<void>(sf::tensor_size(each.type, each.shape, size_bytes));
        at.total_bytes += size_bytes;
    }
    command_line::progress_display progress{false};
    for (std::uint32_t shard = 0; shard < writer->shard_count(); ++shard) {
        auto file = writer->open_shard(shard);
        if (!file) return command_line::report(file.error());
        std::size_t number = 0;
        for (std::size_t i = 0; i < specs.size(); ++i) {
            if (writer->shard_of(i) != shard) continue;
            std::uint64_t size_bytes = 0;
            static_cast<void>(sf::tensor_size(specs[i].type, specs[i].shape, size_bytes));
            for (std::uint64_t done = 0; done < size_bytes; done += piece.size()) {
                fill(piece, state, specs[i].type);
                const std::size_t count = size_bytes - done < piece.size()
                                              ? static_cast<std::size_t>(size_bytes - done)
                                              : piece.size();
                if (auto written = file->write(number, done, {piece.data(), count}); !written)
                    return command_line::report(written.error());
                at.tensor = specs[i].name;
                at.done_bytes = total + done + count;
                progress(at);
            }
            total += size_bytes;
            ++number;
        }
        if (auto committed = file->commit(); !committed)
            return command_line::report(committed.error());
    }
    if (auto finished = writer->finish(); !finished) return command_line::report(finished.error());

    const std::string config_path = out + "/config.json";
    std::FILE* const config = std::fopen(config_path.c_str(), "w");
    if (config == nullptr)
        return command_line::report({.code = sf::errc::io_error, .file = sf::text{config_path}});
    const auto as_int = [](std::uint64_t number) {
        return static_cast<unsigned long long>(number);
    };
    std::fprintf(
        config,
        "{\n  \"architectures\": [\"%s\"],\n  \"hidden_size\": %llu,\n  \"model_type\": \"%s\",\n"
        "  \"moe_intermediate_size\": %llu,\n"
        "  \"num_hidden_layers\": %llu,\n  \"%s\": %llu,\n  \"vocab_size\": %llu\n}\n",
        std::string{spelled->architecture}.c_str(), as_int(hidden),
        std::string{spelled->model_type}.c_str(), as_int(inner), as_int(layers),
        std::string{spelled->expert_key}.c_str(), as_int(experts), as_int(vocabulary));
    if (std::fclose(config) != 0)
        return command_line::report({.code = sf::errc::io_error, .file = sf::text{config_path}});

    std::printf("%s: %zu tensors in %u file%s, family %s, %llu layers of %llu experts\n",
                command_line::printable(out).c_str(), specs.size(), writer->shard_count(),
                writer->shard_count() == 1 ? "" : "s", std::string{family->name}.c_str(),
                as_int(layers), as_int(experts));
    command_line::summarise(total, watch);
    return command_line::success;
}
