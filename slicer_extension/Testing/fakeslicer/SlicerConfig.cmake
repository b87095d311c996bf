# Stands for an installed Slicer, so that CMake can configure and install an extension made of Python files alone:
#   cmake -S . -B build -DSlicer_DIR=slicer_extension/Testing/fakeslicer && cmake --install build --prefix installed
# A file that is listed but missing is an error. Files go where Slicer puts them.

set(Slicer_USE_FILE ${CMAKE_CURRENT_LIST_DIR}/nothing.cmake)
set(Slicer_EXTENSION_GENERATE_CONFIG ${CMAKE_CURRENT_LIST_DIR}/nothing.cmake)
set(Slicer_EXTENSION_CPACK ${CMAKE_CURRENT_LIST_DIR}/nothing.cmake)

function(fakeslicer_install destination)
  foreach(file IN LISTS ARGN)
    if(NOT EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${file})
      message(SEND_ERROR "listed in CMakeLists.txt but missing: ${CMAKE_CURRENT_SOURCE_DIR}/${file}")
    endif()
    get_filename_component(folder ${file} DIRECTORY)
    install(FILES ${CMAKE_CURRENT_SOURCE_DIR}/${file} DESTINATION ${destination}/${folder})
  endforeach()
endfunction()

macro(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(MODULE "WITH_GENERIC_TESTS;WITH_SUBDIR" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  if(MODULE_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "unknown arguments of slicerMacroBuildScriptedModule: ${MODULE_UNPARSED_ARGUMENTS}")
  endif()
  fakeslicer_install(qt-scripted-modules ${MODULE_SCRIPTS} ${MODULE_RESOURCES})
endmacro()

macro(SlicerMacroBuildScriptedCLI)
  cmake_parse_arguments(MODULE "NO_INSTALL" "NAME;FOLDER" "" ${ARGN})
  fakeslicer_install(cli-modules ${MODULE_NAME}.py ${MODULE_NAME}.xml)
endmacro()

function(slicer_add_python_unittest)
endfunction()
