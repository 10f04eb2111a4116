// The programs of README are compiled by contracts/pages/programs.cmake and run here, on good and
// on bad input.
#include <doctest/doctest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "../support/run_program.hpp"
#include "../support/support.hpp"

#if !defined(_WIN32)
namespace {

/// Two experts of layer 1 as AWQ stores them: codes of four bits, packed along the rows, with zeros
/// and scales in groups of 32.
std::vector<support::tensor> awq_experts() {
    std::vector<support::tensor> made;
    const auto add = [&](const std::string& name, const char* type, std::size_t element_bytes,
                         std::uint64_t rows, std::uint64_t columns) {
        made.push_back(
            {name, type, {rows, columns}, support::pattern(name, rows * columns * element_bytes)});
    };
    for (const char* expert : {"0", "1"})
        for (const char* part : {"gate_proj", "up_proj", "down_proj"}) {
            const std::string at = std::string{"model.layers.1.mlp.experts."} + expert + '.' + part;
            add(at + ".qweight", "I32", 4, 32, 4);
            add(at + ".qzeros", "I32", 4, 1, 4);
            add(at + ".scales", "F16", 2, 1, 32);
        }
    made.push_back(support::bf16("lm_head.weight", {2, 2}));
    return made;
}

/// The tensors of a valid checkpoint, except those whose names end with `missing`.
std::vector<support::tensor> plain_experts(std::string_view missing) {
    std::vector<support::tensor> made{support::bf16("lm_head.weight", {2, 2})};
    for (const char* expert : {"0", "1"})
        for (const std::string part : {"gate_proj", "up_proj", "down_proj"})
            made.push_back(support::bf16(
                std::string{"model.layers.1.mlp.experts."} + expert + '.' + part + ".weight",
                part == "down_proj" ? std::vector<std::uint64_t>{3, 2}
                                    : std::vector<std::uint64_t>{2, 3}));
    if (!missing.empty())
        std::erase_if(made,
                      [&](const support::tensor& each) { return each.name.ends_with(missing); });
    return made;
}

}  // namespace

TEST_CASE(
    "readme: its programs say what is wrong with bad input, in one sentence, and do not crash") {
    const std::string folder = support::folder_of_programs("SAFEFUSE_README_PROGRAMS");
    if (folder.empty()) {
        MESSAGE("skipped: SAFEFUSE_README_PROGRAMS names no folder");
        return;
    }
    const support::temporary_directory directory;
    const auto made = [&](const std::string& name, const std::vector<support::tensor>& tensors) {
        std::filesystem::create_directory(directory / name);
        support::write_tensor_file(directory / (name + "/model.safetensors"), tensors);
        return directory / name;
    };
    const std::string good = made("good", plain_experts("")), awq = made("awq", awq_experts()),
                      no_head = made("no_head", plain_experts("lm_head.weight")),
                      no_part = made("no_part", plain_experts("1.up_proj.weight")),
                      no_experts = made("no_experts", {support::bf16("lm_head.weight", {2, 2})}),
                      broken = directory / "broken.safetensors",
                      empty = directory / "empty.safetensors";
    support::write_file(broken, support::framed("{\"lm_head.weight\":"));
    support::write_file(empty, "");

    std::size_t programs = 0;
    for (const auto& program : std::filesystem::directory_iterator{folder}) {
        const std::string name = program.path().filename().string();
        if (!name.starts_with("readme_")) continue;
        ++programs;
        const auto run = [&](const std::vector<std::string>& arguments) {
            const auto ran = support::run_program(program.path().string(), arguments);
            INFO(name, " ", arguments.empty() ? "without arguments" : arguments[0]);
            INFO("stdout: ", ran.out);
            INFO("stderr: ", ran.err);
            CHECK(ran.status < 3);  // not a signal
            return ran;
        };
        CHECK(run({good}).status == 0);
        CHECK(run({}).status == 2);
        CHECK(run({good, good}).status == 2);
        for (const std::string& bad : {no_part, no_experts, broken, empty, directory.string(),
                                       directory / "absent", std::string{}}) {
            const auto ran = run({bad});
            CAPTURE(bad);
            CAPTURE(ran.out);
            CHECK(ran.status == 1);
            CHECK_FALSE((ran.out + ran.err).empty());
        }
        CHECK(run({no_head}).status == 0);
        const auto of_awq = run({awq});
        if (name == "readme_1") {
            CHECK(of_awq.status == 0);
            for (const char* output :
                 {"gate_up_proj_qweight: ", "gate_up_proj_qzeros: ", "gate_up_proj_scales: "})
                CHECK_MESSAGE(of_awq.out.find(output) != std::string::npos, of_awq.out);
        }
    }
    CHECK(programs == 2);
}
#endif
