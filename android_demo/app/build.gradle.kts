plugins {
    alias(libs.plugins.android.application)
    alias(libs.plugins.kotlin.android)
}

android {
    namespace = "dev.pocketrec.demo"
    compileSdk = 36

    defaultConfig {
        applicationId = "dev.pocketrec.demo"
        minSdk = 24
        targetSdk = 36
        versionCode = 1
        versionName = project.version.toString()
    }

    flavorDimensions += "network"
    productFlavors {
        create("offline") {
            dimension = "network"
            isDefault = true
        }
        create("sync") {
            dimension = "network"
            applicationIdSuffix = ".sync"
        }
    }

    buildTypes {
        release {
            isMinifyEnabled = true
            isShrinkResources = true
            proguardFiles(getDefaultProguardFile("proguard-android-optimize.txt"), "proguard-rules.pro")
        }
    }

    splits {
        abi {
            isEnable = true
            reset()
            include("arm64-v8a", "armeabi-v7a", "x86_64")
        }
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }

    testOptions.unitTests.all {
        it.useJUnitPlatform()
        it.systemProperty("pocketrec.vectors", rootDir.resolve("../tests/vectors").path)
    }
}

kotlin { jvmToolchain(17) }

dependencies {
    implementation(project(":core"))
    implementation(libs.onnxruntime.android)

    "syncImplementation"(project(":sync"))
    "syncImplementation"(variantOf(libs.zstd) { artifactType("aar") })

    testImplementation(libs.junit)
    testImplementation(libs.onnxruntime.jvm) // the tests run on this machine
    testRuntimeOnly(libs.junit.launcher)
}
